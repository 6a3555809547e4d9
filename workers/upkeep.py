"""The upkeep process: what has come due, though nobody asked?  `python -m workers.upkeep`.

Sweeps over due-time columns, each a small transaction of compare-and-sets, so any number of these processes may run.  Needs the
database; without Redis it goes on, and what it could not publish comes due again.
"""

import asyncio
import logging
import secrets
import signal
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from redis.asyncio import Redis

from infra import redis, stores
from infra.broker import Publisher, TaskName, depth
from infra.clock import now_ms
from infra.database import Database
from infra.engine.server import default_card, device
from infra.fleet_view import Fleet
from infra.images import Images
from infra.intake import Intake
from infra.objects import ObjectStore
from infra.outbound import Outbound
from infra.rate_limiter import let_go
from infra.results import clear
from infra.settings import Settings
from infra.telemetry import set_up_logging
from infra.token_stream import TokenWriter
from models import files, idempotency, jobs, marks, outbox, usage
from models.cards.card import named
from models.errors import EngineLost, Expired, TramError
from models.handover import Moved
from models.lifecycle import JobState
from models.tables.batches import BatchKind
from models.wire.ending import StreamEnd
from workers.batch import Feeder, Kind
from workers.batch_file import FileKind
from workers.deliver import Deliverer
from workers.grade import Evals
from workers.replay import Replays

log = logging.getLogger(__name__)

_LOST = EngineLost("the worker was lost and no attempt is left")
_LATE = Expired("the deadline passed before a worker was free")
_RECONNECT_S = 0.5


@dataclass
class Upkeep:
    database: Database
    redis: "Redis"
    stream: TokenWriter
    objects: ObjectStore
    publisher: Publisher
    deliverer: Deliverer
    feeder: Feeder
    _just_started: bool = True
    _due: asyncio.Event = field(default_factory=asyncio.Event)

    async def reclaim(self) -> None:
        """Jobs of workers that fell silent go back to their queues."""
        moved = await self.database.write(partial(jobs.reclaim, now_ms=now_ms(), error=_LOST.as_json()))
        for move in moved:
            log.warning("job %s was lost by its worker and is now %s", move.id, move.state)
        await self._follow_up(moved, _LOST)

    async def expire(self) -> None:
        """Queued jobs past their deadline end."""
        moved = await self.database.write(partial(jobs.expire_queued, now_ms=now_ms(), error=_LATE.as_json()))
        await self._follow_up(moved, _LATE)

    async def republish(self) -> None:
        """Queued jobs whose message the broker has lost are published again.

        Redis that has lost its mark has lost all, and a start may follow a stop that took messages along: then every queued job
        is doubted.  A queue that holds fewer messages than jobs wait for it has lost some.
        A message too many finds nothing to claim.
        """
        fresh = await self.redis.set(redis.MARK, secrets.token_hex(8), nx=True)
        doubtful = await self.database.read(
            partial(outbox.doubtful, now_ms=now_ms(), everything=bool(fresh) or self._just_started)
        )
        self._just_started = False
        if not doubtful:
            return
        waiting = await self.database.read(outbox.waiting)
        held = {queue: await depth(self.redis, queue) for queue in {move.queue for move in doubtful}}
        for move in doubtful:
            if held[move.queue] < waiting[move.queue]:
                self.publisher.publish_soon(TaskName.GENERATE, move.queue, move.id)
        lost = Counter(move.queue for move in doubtful if held[move.queue] < waiting[move.queue])
        for queue, count in lost.items():
            log.info("published %d jobs of %s again", count, queue)
        await self.database.write(partial(outbox.reassured, ids=[move.id for move in doubtful], now_ms=now_ms()))

    async def forget(self) -> None:
        """Answers that were not to be stored go, those that were deleted to the end, and idempotency keys after their day."""
        while doomed := await self.database.write(partial(jobs.forget, now_ms=now_ms())):
            if not await clear(self.database, self.objects, doomed):
                break  # they stay due
        await self.database.write(partial(idempotency.forget, now_ms=now_ms()))

    async def sweep_files(self) -> None:
        """Files that expired, were deleted or never came whole: first their bytes go, then the rows."""
        gone = await self.database.write(partial(files.take_due, now_ms=now_ms()))
        for _, key in gone:
            await self.objects.delete(key)
        if gone:
            await self.database.write(partial(files.forget, names=[name for name, _ in gone]))

    async def scrub(self) -> None:
        """What was deleted leaves the database's log, also where somebody was reading at that moment; nobody is made to wait."""
        if not await self.database.scrub(patience_ms=0):
            log.info("the database's log is being read; what was deleted stays in it until the next round")

    async def fold(self) -> None:
        """Usage is added up, so that sums are read from few rows."""
        while await self.database.write(usage.fold) == usage.FOLD_MOST:
            pass

    async def mark(self) -> None:
        """Conversations come to be found by what was said in them.

        With as long a pause after each step as it took: SQLite hands its lock to whoever asks first, and others have to end jobs.
        """
        began = time.monotonic()
        while await self.database.write(marks.sweep) == marks.SWEEP_MOST:
            await asyncio.sleep(time.monotonic() - began)
            began = time.monotonic()

    async def show(self) -> None:
        """A sign of life, for the container's health check."""
        await self.redis.set(redis.UPKEEP + socket.gethostname(), b"", ex=SHOWN_S)

    async def deliver(self) -> None:
        await self.deliverer.round()

    async def feed(self) -> None:
        """Batches, replays and evals go on."""
        await self.feeder.round()

    def nudge(self) -> None:
        self._due.set()

    async def nudged(self, seconds: float) -> None:
        """Returns at a nudge, or after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._due.wait()
        except TimeoutError:
            return
        self._due.clear()

    async def _follow_up(self, moved: list[Moved], error: TramError) -> None:
        for move in moved:
            if move.state is JobState.QUEUED:
                self.publisher.publish_soon(TaskName.GENERATE, move.queue, move.id)
            else:
                await let_go(self.redis, move.settlement)
                await self.stream.end(*move.epilogue, StreamEnd(move.state, error.as_json()).dump())
        if moved:
            self.nudge()


Sweep = Callable[[Upkeep], Awaitable[None]]

SWEEPS: tuple[tuple[Sweep, float], ...] = (
    (Upkeep.reclaim, 1.0),  # a lease of 12 s and this: a lost job runs again within 15 s
    (Upkeep.expire, 1.0),
    (Upkeep.republish, 1.0),
    (Upkeep.feed, 0.5),
    (Upkeep.forget, 10.0),
    (Upkeep.sweep_files, 2.0),
    (Upkeep.scrub, 10.0),
    (Upkeep.fold, 10.0),
    (Upkeep.mark, 2.0),
    (Upkeep.show, 5.0),
)
SHOWN_S = 15
"""Three rounds."""
DELIVERY_ROUND_S = 1.0


async def run(settings: Settings, stop: asyncio.Event) -> None:
    async with opened(settings) as upkeep:
        loops = [asyncio.create_task(_sweeping(upkeep, sweep, every_s)) for sweep, every_s in SWEEPS]
        loops += [asyncio.create_task(_delivering(upkeep)), asyncio.create_task(_listening(upkeep))]
        await stop.wait()
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Upkeep]:
    async with stores.opened(**settings.stores) as held, AsyncExitStack() as stack:
        outbound = Outbound(settings.webhook_networks)
        await outbound.open()
        stack.push_async_callback(outbound.close)
        deliverer = Deliverer(held.database, held.objects, outbound, settings.url)
        stack.push_async_callback(deliverer.close)
        own = named(settings.model) if settings.model else None
        fleet = Fleet(held.redis, own, default_card(device()), patient=True)
        await fleet.open()
        stack.push_async_callback(fleet.close)
        feeder = Feeder(
            name=f"{socket.gethostname()}-{secrets.token_hex(4)}",
            database=held.database,
            redis=held.redis,
            stream=held.stream,
            objects=held.objects,
            publisher=held.publisher,
            intake=Intake(held.database, fleet, Images(outbound), settings.webhook_networks),
            kinds=_kinds(settings),
        )
        stack.push_async_callback(feeder.close)
        yield Upkeep(held.database, held.redis, held.stream, held.objects, held.publisher, deliverer, feeder)


def _kinds(settings: Settings) -> dict[BatchKind, Kind]:
    kinds: dict[BatchKind, Kind] = {BatchKind.FILE: FileKind(settings.max_body_bytes)}
    return kinds | {BatchKind.REPLAY: Replays(), BatchKind.EVAL: Evals()}


async def _sweeping(upkeep: Upkeep, sweep: Sweep, every_s: float) -> None:
    while True:
        await _guarded(upkeep, sweep)
        await asyncio.sleep(every_s)


async def _delivering(upkeep: Upkeep) -> None:
    while True:
        await _guarded(upkeep, Upkeep.deliver)
        await upkeep.nudged(DELIVERY_ROUND_S)


async def _guarded(upkeep: Upkeep, sweep: Sweep) -> None:
    """A sweep that fails is tried again at its next turn: whatever it is, the others must go on."""
    try:
        await sweep(upkeep)
    except (TramError, *redis.FAULTS) as error:
        log.warning("%s could not run: %s", sweep.__name__, error)
    except Exception:
        log.exception("%s broke", sweep.__name__)


async def _listening(upkeep: Upkeep) -> None:
    while True:
        try:
            async with upkeep.redis.pubsub(ignore_subscribe_messages=True) as channel:
                await channel.subscribe(redis.NUDGE_CHANNEL)
                async for _ in channel.listen():
                    upkeep.nudge()
        except redis.FAULTS:
            await asyncio.sleep(_RECONNECT_S)


async def main() -> None:
    settings, stop = Settings(), asyncio.Event()
    set_up_logging(settings.log_level)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await run(settings, stop)


if __name__ == "__main__":
    asyncio.run(main())
