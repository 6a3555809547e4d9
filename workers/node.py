"""What does a worker process hold, and who watches over the jobs in its hands?

One node a process: the connections every attempt uses, the attempts that run now, and four watchers.  `renewing` extends the
leases of all of them in one statement and learns of wishes to cancel; `listening` hears those wishes at once; `showing` tells the
fleet that this worker is there; `opening` lets jobs in once the engine takes them.  Losing the second costs seconds, losing the first
costs the lease, and then another worker takes over.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any

from redis.asyncio import Redis

from infra.broker import Publisher
from infra.clock import now_ms
from infra.database import Database
from infra.engine.client import EngineClient
from infra.fleet import Totals
from infra.objects import ObjectStore
from infra.redis import CANCEL_CHANNEL, FAULTS, NUDGE_CHANNEL
from infra.token_stream import TokenWriter
from models import jobs
from models.errors import Unavailable
from models.prefix import cache_salt
from models.tables.access import Account
from workers.gate import Gate
from workers.presence import Presence

log = logging.getLogger(__name__)

RENEW_S = 3.0
"""A quarter of the lease: three renewals may fail before it is lost."""
_ENGINE_POLL_S = 0.25
_RECONNECT_S = 0.5
HEARD_S = 5.0
"""How long a wish to cancel is remembered: from a claim's commit to its attempt's beginning pass milliseconds, in a crowd more."""


class Stop(StrEnum):
    """Why an attempt is told to stop."""

    CANCELLED = "cancelled"
    EXPIRED = "expired"
    LOST = "lost"
    """The lease is somebody else's: nothing may be written any more."""
    STUCK = "stuck"
    """The engine makes no tokens: another may."""


@dataclass
class Node:
    database: Database
    redis: "Redis"
    stream: TokenWriter
    objects: ObjectStore
    engine: EngineClient
    publisher: Publisher
    presence: Presence
    gate: Gate
    """Shut while the engine is away: a job is taken only when it can be asked."""
    running: dict[str, tuple[int, Callable[[Stop], None]]] = field(default_factory=dict)
    """Job id to its attempt number and the way to stop it."""
    totals: Totals = field(default_factory=Totals)
    noted: set[str] = field(default_factory=set)
    """Environments whose facts the database has."""
    _heard: dict[str, float] = field(default_factory=dict)
    """Jobs that somebody has lately wished to stop, and when, oldest first."""
    _salts: dict[str, str] = field(default_factory=dict)
    _engine_stuck: bool = False
    _engine_missed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def name(self) -> str:
        return self.presence.name

    def tally(self, usage: dict[str, Any]) -> None:
        """A job has ended, and this is what it used."""
        self.totals = self.totals.plus(usage)

    def hold(self, job_id: str, attempt: int, stop: Callable[[Stop], None]) -> None:
        """An attempt runs; the wish to stop it may have come while it was claimed."""
        self.running[job_id] = (attempt, stop)
        if time.monotonic() - self._heard.get(job_id, -HEARD_S) < HEARD_S:
            stop(Stop.CANCELLED)

    def hear(self, job_id: str) -> None:
        """A wish to stop a job, here or elsewhere."""
        now = time.monotonic()
        while self._heard and now - self._heard[oldest := next(iter(self._heard))] >= HEARD_S:
            del self._heard[oldest]
        self._heard[job_id] = now
        _stop(self, job_id, Stop.CANCELLED)

    def engine_lost(self) -> None:
        """Nothing is taken until the engine is found to be ready."""
        self.gate.shut()
        self._engine_missed.set()

    def engine_stuck(self) -> None:
        """Until `engine_well`: what runs is handed back, and nothing is taken."""
        self._engine_stuck = self.presence.stuck = True
        self.engine_lost()
        for _, stop in tuple(self.running.values()):
            stop(Stop.STUCK)

    def engine_well(self) -> None:
        self._engine_stuck = self.presence.stuck = False

    async def await_engine(self) -> None:
        """Once the engine was missed: lets jobs in if it is ready, else misses it again a moment later."""
        await self._engine_missed.wait()
        self._engine_missed.clear()
        if await self._is_engine_ready() and not self._engine_missed.is_set():
            self.gate.open()
            return
        await asyncio.sleep(_ENGINE_POLL_S)
        self._engine_missed.set()

    async def _is_engine_ready(self) -> bool:
        if self._engine_stuck or not await self.engine.is_ready():
            return False
        await self.presence.learn()
        return True

    async def cache_salt(self, account_id: str) -> str:
        salt = self._salts.get(account_id)
        if salt is None:
            account = await self.database.read(lambda session: session.get_one(Account, account_id))
            salt = self._salts[account_id] = cache_salt(account.salt)
        return salt

    async def nudge_deliveries(self) -> None:
        """Tells the deliverer not to wait for its next round; it comes round without being told."""
        try:
            await self.redis.publish(NUDGE_CHANNEL, b"")
        except FAULTS:
            log.info("could not nudge the deliverer; its next round finds the delivery")


@asynccontextmanager
async def watched(node: Node) -> AsyncIterator[Node]:
    """Runs the node's watchers as long as the block lasts."""
    watchers = [asyncio.create_task(_for_ever(watch, node)) for watch in (_renewing, _listening, _showing, _opening)]
    try:
        yield node
    finally:
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)


async def leave(node: Node) -> None:
    """What a stop begins with: nobody is to count on this worker any more."""
    await node.presence.withdraw()


async def _for_ever(watch: Callable[[Node], Awaitable[None]], node: Node) -> None:
    """Whatever it fails at, it is begun again: a node that renews nothing loses every job, as long as its process lives."""
    while True:
        try:
            await watch(node)
        except Exception:
            log.exception("%s broke; it begins again", watch.__name__)
            await asyncio.sleep(_RECONNECT_S)


async def _renewing(node: Node) -> None:
    while True:
        await asyncio.sleep(RENEW_S)
        held = {job_id: attempt for job_id, (attempt, _) in node.running.items()}
        if held:
            await _renew(node, held)


async def _showing(node: Node) -> None:
    while True:
        await node.presence.show(running=len(node.running), totals=node.totals)
        await asyncio.sleep(RENEW_S)


async def _opening(node: Node) -> None:
    node.engine_lost()  # it was not found yet
    while True:
        await node.await_engine()


async def _renew(node: Node, held: dict[str, int]) -> None:
    try:
        verb = partial(jobs.renew, worker=node.name, ids=list(held), now_ms=now_ms())
        renewed = {row.id: row for row in await node.database.write(verb)}
    except Unavailable:
        log.warning("could not renew %d leases: the database does not answer", len(held))
        return
    for job_id, attempt in held.items():
        row = renewed.get(job_id)
        if row is None or row.attempt != attempt:
            _stop(node, job_id, Stop.LOST)
        elif row.cancel_requested:
            _stop(node, job_id, Stop.CANCELLED)


async def _listening(node: Node) -> None:
    while True:
        try:
            async with node.redis.pubsub(ignore_subscribe_messages=True) as channel:
                await channel.subscribe(CANCEL_CHANNEL)
                async for message in channel.listen():
                    node.hear(message["data"].decode())
        except FAULTS:
            await asyncio.sleep(_RECONNECT_S)


def _stop(node: Node, job_id: str, why: Stop) -> None:
    if job_id in node.running:
        node.running[job_id][1](why)
