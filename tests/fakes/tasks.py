"""A worker whose tasks do what their id says and tell so, a line each, on a pipe.

Started as `celery -A tests.fakes.tasks worker`; `TASKS` in the environment is JSON: the broker's address and what to get wrong.
"""

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from kombu.transport.redis import Transport

from infra.broker import TaskName, celery_app
from workers.gate import Gate, stand_before
from workers.pool import prepare
from workers.task import register

given = json.loads(os.environ["TASKS"])
BRIEF_S = 1.0  # how long a `brief` task takes
draining = asyncio.Event()

app = celery_app(given["redis_url"])
gate = Gate()
if "asks_for_s" in given:  # how long one question for a message stands
    Transport.brpop_timeout = given["asks_for_s"]


def tell(*words: object) -> None:
    os.write(given["pipe"], (" ".join(map(str, words)) + "\n").encode())


def keep_gate(loop: asyncio.AbstractEventLoop) -> None:
    """Opens and shuts it as the lines of a named pipe say."""
    with Path(given["gate"]).open(encoding="ascii") as orders:
        for order in orders:
            loop.call_soon_threadsafe(move_gate, order.strip())


def move_gate(order: str) -> None:
    {"open": gate.open, "shut": gate.shut}[order]()
    tell("gate", order)


@asynccontextmanager
async def lifespan() -> AsyncIterator[str]:
    if given.get("lifespan") == "fails":
        raise RuntimeError("no engine to be had")
    if given.get("lifespan") == "hangs":
        try:
            tell("starting")
            await asyncio.Event().wait()
        finally:
            tell("given_up")
    if "gate" in given:
        threading.Thread(target=keep_gate, args=(asyncio.get_running_loop(),), daemon=True).start()
    else:
        gate.open()
    tell("up")
    yield "the context"
    tell("down")


async def drain(context: str) -> None:
    tell("draining", context)
    draining.set()


async def act(context: str, item_id: str) -> None:
    kind = item_id.partition("_")[0]
    tell("began", item_id, threading.current_thread().name, context)
    if kind == "fails":
        raise ValueError("as asked")
    if kind == "exits":
        raise SystemExit(3)
    if kind == "brief":
        await asyncio.sleep(BRIEF_S)
    if kind == "outlasts":
        await draining.wait()
    if kind == "holds":
        await _hold(item_id)
    tell("ended", item_id)


async def _hold(item_id: str) -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await asyncio.sleep(0)  # handing back takes the loop
        tell("handed_back", item_id)
        raise


stand_before(app, gate)
prepare(app, lifespan, drain_s=given.get("drain_s", 10.0), drain=drain)
register(app, TaskName.GENERATE, act)
if given.get("rate_limit"):
    app.tasks[TaskName.GENERATE].rate_limit = given["rate_limit"]
