"""How do the rows of a batch become answers?  Fed to the queue in windows, settled as their jobs end, ended when none is left.

A round looks at each open batch that this process holds: counts what has ended, hands that to the batch's kind, feeds as many rows as
there is room for within the account's limits (`workers.row_feed`), and ends what is over.  All of it can be done again from the rows, so a feeder may die
anywhere; a limit that is reached makes rows wait, it does not fail them.  What a file, a replay and an eval have of their own is their
`Kind`: how rows are made, what an answer leads to, what the whole comes to.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from redis.asyncio import Redis
from sqlalchemy.orm import Session

from infra import cancellation
from infra.broker import Publisher
from infra.clock import now_ms
from infra.database import Database
from infra.intake import Intake
from infra.objects import ObjectStore
from infra.redis import FAULTS, NUDGE_CHANNEL
from infra.token_stream import TokenWriter
from models import batch_turns, batches
from models.batch_turns import Turns, next_rows
from models.batches import NewRow, Settled
from models.errors import TramError
from models.tables.batches import Batch, BatchKind, BatchRow, BatchState
from models.tables.jobs import Door
from workers.row_feed import RowFeed

log = logging.getLogger(__name__)

FEED_ROWS = 64
"""Rows that are read, and become jobs, at a time, where they are short."""
_STOPPED = {BatchState.CANCELLING: "batch_cancelled", BatchState.IN_PROGRESS: "batch_expired"}
_WORDS = {
    "batch_cancelled": "the batch was cancelled before this row ran",
    "batch_expired": "the batch's time was over before this row ran",
    "batch_unread": "the batch's time was over before its rows were there",
}


@dataclass(frozen=True, slots=True)
class Effect:
    """What an ended row leads to, in the transaction that counts it."""

    detail: dict[str, Any] | None = None
    """What is to be remembered of the row from now on; None: what was."""
    rows: Sequence[NewRow] = ()
    """Rows that follow from it; their numbers are told by it, too, so that they are the same a second time."""


_NOTHING = Effect()


class Kind(Protocol):
    door: Door

    async def prepare(self, feeder: "Feeder", batch: Batch) -> None:
        """Makes the rows of a batch that is `validating` and says so (`batches.started`), or ends it.  May be begun again."""

    async def requests(self, feeder: "Feeder", batch: Batch, rows: Sequence[BatchRow]) -> Mapping[int, dict[str, Any]]:
        """By number, the chat requests of rows whose time has come; one that has none any more is left out, and fails."""

    async def consider(self, feeder: "Feeder", batch: Batch, settled: Sequence[Settled]) -> Mapping[int, Effect | None]:
        """By number, what these rows' endings lead to; None: too much for now, ask again.  Nothing is written here."""

    async def conclude(self, feeder: "Feeder", batch: Batch, state: BatchState) -> dict[str, Any] | None:
        """What the whole comes to: the batch's `output`.  May be begun again, and then makes the same."""

    def event(self, state: BatchState) -> str:
        """The type of the webhook's event."""


@dataclass
class Feeder:
    name: str
    """Whose leases they are."""
    database: Database
    redis: "Redis"
    stream: TokenWriter
    objects: ObjectStore
    publisher: Publisher
    intake: Intake
    kinds: Mapping[BatchKind, Kind]
    _turns: Turns = field(default_factory=Turns)
    _busy: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _ahead: dict[str, int] = field(default_factory=dict)
    """By batch, how many rows are read at a time: one after a limit was reached, lest what waits is prepared again and again."""

    async def round(self) -> None:
        """Those open batches whose turn it is go on for as long as they move, beside each other."""
        taken = await self.database.write(partial(batch_turns.take, holder=self.name, now_ms=now_ms()))
        self._turns.hold(taken)
        self._ahead = {batch_id: ahead for batch_id, ahead in self._ahead.items() if batch_id in taken}
        for batch_id in self._turns.next(self._busy):
            task = self._busy[batch_id] = asyncio.create_task(self._go_on(batch_id))
            task.add_done_callback(partial(self._busy.pop, batch_id))

    async def close(self) -> None:
        """What is under way is given up; whoever holds the batch next does it again."""
        tasks = list(self._busy.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _go_on(self, batch_id: str) -> None:
        try:
            while await self._advance(batch_id):
                pass
        except (TramError, *FAULTS) as error:
            log.warning("batch %s waits: %s", batch_id, error)
        except Exception:
            log.exception("batch %s could not be moved; the next round tries again", batch_id)

    async def _advance(self, batch_id: str) -> bool:
        batch = await self.database.read(partial(_get, batch_id=batch_id))
        kind = self.kinds[batch.kind]
        if batch.state in batches.ENDED:
            return False
        if batch.state is BatchState.VALIDATING:
            return await self._prepare(kind, batch)
        if batch.state is BatchState.FINALIZING:
            return await self._end(kind, batch)
        settled = await self._settle(kind, batch)
        if settled == batches.SETTLE_MOST:
            return True  # more may have been answered in time
        stopped = await self._stop(batch)
        fed = 0 if stopped else await self._feed(kind, batch)
        if not fed and await self.database.read(partial(batches.idle, batch_id=batch_id)):
            return await self._close(kind, batch)
        return bool(settled or fed)

    async def _prepare(self, kind: Kind, batch: Batch) -> bool:
        """What cannot be read is tried again, round after round, while there is time."""
        if batch.expires_ms is not None and batch.expires_ms <= now_ms():
            event = kind.event(BatchState.EXPIRED)
            return await self.database.write(partial(_expire_unread, batch=batch, event=event))
        await kind.prepare(self, batch)
        after = await self.database.read(partial(_get, batch_id=batch.id))
        return after.state is not BatchState.VALIDATING

    async def _settle(self, kind: Kind, batch: Batch) -> int:
        over = await self.database.read(partial(batches.ended, batch_id=batch.id))
        if not over:
            return 0
        effects = await kind.consider(self, batch, over)
        numbers = [each.row.number for each in over if effects.get(each.row.number, _NOTHING) is not None]
        return await self.database.write(partial(_settled, batch_id=batch.id, numbers=numbers, effects=effects))

    async def _stop(self, batch: Batch) -> bool:
        """Whether nothing more of it may run; then rows that wait are dropped, and jobs of a cancelled one stopped."""
        if batch.state is not BatchState.CANCELLING and not await self._expired(batch):
            return False
        if batch.started_ms is None:
            await self.database.write(partial(batches.clear, batch_id=batch.id))
        code = _STOPPED[batch.state]
        error = {"kind": "Cancelled", "message": _WORDS[code], "param": None, "code": code}
        while await self.database.write(partial(batches.drop, batch_id=batch.id, error=error)):
            pass
        if batch.state is BatchState.CANCELLING:
            stop = partial(batches.stop_jobs, batch=batch, now_ms=now_ms())
            for moved in await self.database.write(stop):
                await cancellation.tell(self.redis, self.stream, moved)
        return True

    async def _expired(self, batch: Batch) -> bool:
        if batch.expires_ms is None or batch.expires_ms > now_ms():
            return False
        return await self.database.write(partial(batches.expire, batch_id=batch.id, now_ms=now_ms()))

    async def _feed(self, kind: Kind, batch: Batch) -> int:
        running: int = await self.database.read(partial(batches.running, batch_id=batch.id))
        ahead = self._ahead.get(batch.id, FEED_ROWS)
        room = min(self._turns.share(batch.account_id) - running, ahead)
        rows = await self.database.read(partial(next_rows, batch_id=batch.id, limit=room)) if room > 0 else ()
        if not rows:
            return 0
        requests = await kind.requests(self, batch, rows)
        feed = RowFeed(self.database, self.redis, self.publisher, self.intake, batch, kind.door)
        fed = await feed.feed(rows, requests)
        self._ahead[batch.id] = min(2 * ahead, FEED_ROWS) if fed.looked_at == len(rows) else 1
        return fed.moved

    async def _close(self, kind: Kind, batch: Batch) -> bool:
        """Every row has ended."""
        if batch.state is BatchState.CANCELLING:
            return await self._end(kind, batch)
        return await self.database.write(partial(batches.finalize, batch_id=batch.id, now_ms=now_ms()))

    async def _end(self, kind: Kind, batch: Batch) -> bool:
        batch = await self.database.read(partial(_get, batch_id=batch.id))  # its counts are the last ones now
        state = batches.last_state(batch)
        output = await kind.conclude(self, batch, state)
        verb = partial(batches.end, batch=batch, state=state, event=kind.event(state), now_ms=now_ms(), output=output)
        ended = await self.database.write(verb)
        with suppress(*FAULTS):  # the delivery is due, with or without a nudge
            await self.redis.publish(NUDGE_CHANNEL, b"")
        return ended


def _settled(session: Session, batch_id: str, numbers: Sequence[int], effects: Mapping[int, Effect | None]) -> int:
    counted = batches.settle(session, batch_id, numbers)
    for number in counted:
        if effect := effects.get(number):
            batches.remember(session, batch_id, number, effect.detail)
            batches.add(session, batch_id, effect.rows)
    return len(counted)


def _expire_unread(session: Session, batch: Batch, event: str) -> bool:
    error = {"code": "batch_expired", "message": _WORDS["batch_unread"], "param": None, "line": None}
    if not batches.end(session, batch, BatchState.EXPIRED, event, now_ms(), errors=[error]):
        return False
    batches.clear(session, batch.id)
    return True


def _get(session: Session, batch_id: str) -> Batch:
    return session.get_one(Batch, batch_id)
