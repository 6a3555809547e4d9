"""What does a worker do when an engine that it joined is stuck?  It cannot start it again, so it gives its jobs back.

They go to the queue, where another worker may take them; this one claims nothing until the engine makes tokens again.  An engine
of our own needs no vigil: its supervisor ends it, and the broken connections say the same.  Nor can one be kept over a server
that is not SGLang: it has no counters to tell slow from stuck.
"""

import asyncio
import logging

from infra.engine.watch import EngineWatch
from infra.probes import stays_well
from models.errors import EngineLost
from workers.node import Node

log = logging.getLogger(__name__)

_AGAIN_S = 1.0


async def keep(node: Node, url: str, stuck_s: float) -> None:
    """Runs as long as the node does."""
    if not await _is_sglang(node):
        return
    watch, never = EngineWatch(url), asyncio.get_running_loop().create_future()
    while True:
        complaint = await stays_well(watch.complaint, never, stuck_s)
        log.error("the engine at %s is stuck (%s): its jobs go back to their queues", url, complaint)
        node.engine_stuck()
        await _until_well(watch)
        log.warning("the engine at %s is well again", url)
        node.engine_well()


async def _is_sglang(node: Node) -> bool:
    while True:
        try:
            return await node.engine.is_sglang()
        except EngineLost:
            await asyncio.sleep(_AGAIN_S)


async def _until_well(watch: EngineWatch) -> None:
    while True:
        if not await _complaint(watch):
            return
        await asyncio.sleep(_AGAIN_S)


async def _complaint(watch: EngineWatch) -> str:
    try:
        return await watch.complaint()
    except OSError:
        return "it cannot be reached"
