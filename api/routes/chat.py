"""POST /v1/chat/completions: an answer, streamed or whole, for a caller who holds the line."""

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.answers import json_response
from api.cancel import hang_up
from api.deps import body_of, caller_of, key_of, state_of
from api.intake import accept, headers_of
from api.lines import EventStream, chat_closing, entries, or_hang_up, whole
from api.records import job_of
from models.errors import Unavailable
from models.ids import completion_of
from models.tables.jobs import Door
from models.wire.completions import completion_view
from models.wire.ending import StreamEnd

router = APIRouter()
_CLIENT_CLOSED = 499  # nginx's word for it; nobody is left to read it, but the log is


@router.post("/v1/chat/completions", summary="Create a chat completion")
async def create_chat_completion(request: Request) -> Response:
    state, caller, key = state_of(request), await caller_of(request), key_of(request)
    body = await body_of(request)
    accepted = await accept(state, caller, body, Door.CHAT, key)
    headers = {"x-tram-job": accepted.job_id} | headers_of(accepted)
    # Who named the request may come back for it, and who asked for the background never was on the line.
    leave = None if key or body.get("background") else partial(hang_up, state, caller.account_id, accepted.job_id)
    if body.get("stream"):
        line = entries(state, accepted.job_id)
        return EventStream(line, closing=chat_closing, headers=headers, on_hang_up=leave)
    if body.get("background"):
        job = await job_of(state, caller.account_id, accepted.job_id)
        where = {"location": f"/v1/chat/completions/{completion_of(job.id)}"}
        return json_response(completion_view(job, None), 202, headers | where)
    ending = await or_hang_up(request, whole(state, accepted.job_id))
    if ending is not None:
        return _whole(ending, headers)
    if leave is not None:
        leave()
    return Response(status_code=_CLIENT_CLOSED)


def _whole(ending: StreamEnd, headers: dict[str, str]) -> Response:
    if failure := ending.failure():
        raise failure
    if ending.completion is None:
        raise Unavailable("the answer was lost on the way")
    waited = {} if ending.waited_ms is None else {"x-queue-wait-ms": str(ending.waited_ms)}
    return json_response(ending.completion, headers=headers | waited)
