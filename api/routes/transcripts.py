"""/v1/conversations/export and /import: whole conversations as files, for training, evaluation, backup, and back again."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response, StreamingResponse

from api.answers import json_response
from api.deps import caller_of, state_of
from api.exchange import SHEETS, exported, imported
from api.searching import filters
from models.searches import Wanted
from models.wire.imported import Format

router = APIRouter(prefix="/v1/conversations")
FormatQuery = Annotated[Format, Query(alias="format", description="OpenAI's JSON Lines, ShareGPT's array, or Parquet")]


@router.get("/export", summary="Export conversations, a record a branch")
async def export_conversations(
    request: Request,
    wanted: Annotated[Wanted, Depends(filters)],
    form: FormatQuery = "openai",
    replays: Annotated[bool, Query(description="With branches that only a replay has said")] = False,
) -> Response:
    state, caller = state_of(request), await caller_of(request)
    sheet = await asyncio.to_thread(SHEETS[form])  # the first of Parquet's loads pyarrow
    pieces = exported(state, caller, wanted, sheet, replays=replays)
    first = await anext(pieces)

    async def all_pieces() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    return StreamingResponse(all_pieces(), media_type=sheet.content_type)


@router.post("/import", summary="Import conversations: what the account holds already is not brought again")
async def import_conversations(
    request: Request,
    form: FormatQuery = "openai",
    model: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=200,
            description="Of answers that do not say who gave them; left out: the served one",
        ),
    ] = None,
) -> Response:
    state, caller = state_of(request), await caller_of(request)
    return json_response(await imported(state, caller, request, form, model))
