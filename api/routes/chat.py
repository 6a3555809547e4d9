"""POST /v1/chat/completions: an answer, streamed or whole, for a caller who holds the line."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.acceptance import accept, headers_of, shown
from api.answers import json_response
from api.deps import body_of, caller_of, key_of, state_of
from api.dialects import CHAT
from api.held import answer
from models.ids import completion_of
from models.tables.jobs import Door
from models.wire.completions import completion_view

router = APIRouter()


@router.post("/v1/chat/completions", summary="Create a chat completion")
async def create_chat_completion(request: Request) -> Response:
    state, caller, key = state_of(request), await caller_of(request), key_of(request)
    body = await body_of(request)
    accepted = await accept(state, caller, body, Door.CHAT, key)
    stream, background = bool(body.get("stream")), bool(body.get("background"))
    if stream or not background:
        # Who asked for the background never was on the line.
        stays = background or key is not None
        return await answer(request, state, caller, accepted, CHAT, stream=stream, stays=stays)
    job = await shown(state, caller, accepted)
    headers = {"x-tram-job": job.id, "location": f"/v1/chat/completions/{completion_of(job.id)}"}
    return json_response(completion_view(job, None), 202, headers | headers_of(accepted))
