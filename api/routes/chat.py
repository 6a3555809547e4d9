"""POST /v1/chat/completions: an answer, streamed or whole, for a caller who holds the line."""

from functools import partial

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from api.cancel import hang_up
from api.deps import body_of, caller_of, state_of
from api.intake import accept
from api.lines import EventStream, chat_closing, entries, or_hang_up, whole
from models.errors import Unavailable
from models.tables.jobs import Door

router = APIRouter()
_CLIENT_CLOSED = 499  # nginx's word for it; nobody is left to read it, but the log is


@router.post("/v1/chat/completions", summary="Create a chat completion")
async def create_chat_completion(request: Request) -> Response:
    state, caller = state_of(request), await caller_of(request)
    body = await body_of(request)
    job = await accept(state, caller, body, Door.CHAT)
    leave = partial(hang_up, state, caller.account_id, job.id)
    headers = {"x-tram-job": job.id}
    if body.get("stream"):
        return EventStream(entries(state, job.id), closing=chat_closing, headers=headers, on_hang_up=leave)
    ending = await or_hang_up(request, whole(state, job.id))
    if ending is None:
        leave()
        return Response(status_code=_CLIENT_CLOSED)
    if failure := ending.failure():
        raise failure
    if ending.completion is None:
        raise Unavailable("the answer was lost on the way")
    return Response(orjson.dumps(ending.completion), media_type="application/json", headers=headers)
