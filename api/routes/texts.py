"""POST /v1/completions: a prompt without a chat template, completed; OpenAI's older door, which harnesses for evals still use."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.acceptance import accept
from api.deps import body_of, caller_of, key_of, state_of
from api.dialects import TEXT
from api.held import answer, by_prompt
from models.tables.jobs import Door
from models.wire.texts import chat_of

router = APIRouter()


@router.post("/v1/completions", summary="Complete a text")
async def create_completion(request: Request) -> Response:
    state, caller, key = state_of(request), await caller_of(request), key_of(request)
    body = await body_of(request)
    chat = chat_of(body)
    with by_prompt(body):
        accepted = await accept(state, caller, chat, Door.CHAT, key)
    stream, stays = bool(body.get("stream")), key is not None
    return await answer(request, state, caller, accepted, TEXT, stream=stream, stays=stays)
