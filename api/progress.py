"""How is a batch, a replay or an eval's run watched?  Server-sent events: how far it is, whenever that has changed, and `[DONE]`.

The database is asked every second a watcher, since a batch moves in many processes; comments keep silent lines open, also while it is
away.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import orjson
from sqlalchemy.orm import Session
from starlette.responses import StreamingResponse

from api.deps import State
from models.errors import NotFound, Unavailable
from models.tables.batches import Batch
from models.wire.progress import progress_view

LOOK_S = 1.0
QUIET_LOOKS = 15
"""Looks without news before a comment: proxies close lines that are silent for a minute."""
_QUIET = b": still here\n\n"
_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}  # nginx would gather the events

Look = Callable[[Session], Batch | None]


async def progress(state: State, look: Look, missing: NotFound) -> StreamingResponse:
    """`look` finds the batch; raises `missing` where it does not."""
    batch = await state.database.read(look)
    if batch is None:
        raise missing
    return StreamingResponse(_events(state, look, batch), headers=_HEADERS, media_type="text/event-stream")


async def _events(state: State, look: Look, batch: Batch | None) -> AsyncGenerator[bytes, None]:
    told: dict[str, Any] = {}
    silent = 0
    while batch is not None:
        if (view := progress_view(batch)) != told:
            yield b"data: " + orjson.dumps(view) + b"\n\n"
            told, silent = view, 0
        if batch.ended_ms is not None:
            break
        await asyncio.sleep(LOOK_S)
        silent += 1
        if silent % QUIET_LOOKS == 0:
            yield _QUIET
        try:
            batch = await state.database.read(look)
        except Unavailable:  # who watches for days need not hear of it
            yield _QUIET
    yield b"data: [DONE]\n\n"
