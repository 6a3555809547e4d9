"""How do the rows of a batch become answers?  Fed to the queue in windows, settled as their jobs end, ended when none is left.

A round looks at each open batch that this process holds: counts what has ended, hands that to the batch's kind, feeds as many rows as
there is room for within the account's limits, and ends what is over.  All of it can be done again from the rows, so a feeder may die
anywhere; a limit that is reached makes rows wait, it does not fail them.  What a file, a replay and an eval have of their own is their
`Kind`: how rows are made, what an answer leads to, what the whole comes to.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from redis.asyncio import Redis
from sqlalchemy.orm import Session

from infra import cancellation
from infra.admission import admit
from infra.broker import Publisher, TaskName
from infra.clock import now_ms
from infra.database import Database
from infra.intake import Intake
from infra.objects import ObjectStore
from infra.redis import FAULTS, NUDGE_CHANNEL
from infra.token_stream import TokenWriter
from models import accounts, batches
from models.accounts import Caller
from models.batches import NewRow, Settled
from models.errors import BudgetExceeded, InsufficientCredits, NotFound, RateLimited, TramError
from models.handover import NewJob
from models.placement import Tier
from models.requests import Lineage
from models.tables.batches import Batch, BatchKind, BatchRow, BatchState
from models.tables.jobs import Door

log = logging.getLogger(__name__)

FEED_ROWS = 64
"""Rows that are read, and become jobs, at a time: one may hold four megabytes."""
WINDOW = 512
"""Rows of one batch that are jobs at once: more than a worker holds, so that the engine's policy has a choice, and few enough
for Redis' queues to stay shallow."""
_STOPPED = {BatchState.CANCELLING: "batch_cancelled", BatchState.IN_PROGRESS: "batch_expired"}
_WORDS = {
    "batch_cancelled": "the batch was cancelled before this row ran",
    "batch_expired": "the batch's time was over before this row ran",
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
    _busy: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def round(self) -> None:
        """Each open batch goes on for as long as it moves, beside the others."""
        for batch_id in await self.database.write(partial(batches.take, holder=self.name, now_ms=now_ms())):
            if batch_id not in self._busy:
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
        if batch.state is BatchState.VALIDATING:
            await kind.prepare(self, batch)
            after = await self.database.read(partial(_get, batch_id=batch_id))
            return after.state is not BatchState.VALIDATING
        if batch.state is BatchState.FINALIZING:
            return await self._end(kind, batch)
        settled = await self._settle(kind, batch)
        stopped = await self._stop(batch)
        fed = 0 if stopped else await self._feed(kind, batch)
        if not fed and await self.database.read(partial(batches.idle, batch_id=batch_id)):
            return await self._close(kind, batch)
        return bool(settled or fed)

    async def _settle(self, kind: Kind, batch: Batch) -> int:
        over = await self.database.read(partial(batches.ended, batch_id=batch.id))
        if not over:
            return 0
        effects = await kind.consider(self, batch, over)
        numbers = [each.row.number for each in over if effects.get(each.row.number, _NOTHING) is not None]
        return await self.database.write(partial(_settled, batch_id=batch.id, numbers=numbers, effects=effects))

    async def _stop(self, batch: Batch) -> bool:
        """Whether nothing more of it may run; then rows that wait are dropped, and jobs of a cancelled one stopped."""
        expired = batch.expires_ms is not None and batch.expires_ms <= now_ms()
        if batch.state is not BatchState.CANCELLING and not expired:
            return False
        if expired:
            await self.database.write(partial(batches.expire, batch_id=batch.id, now_ms=now_ms()))
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

    async def _feed(self, kind: Kind, batch: Batch) -> int:
        running: int = await self.database.read(partial(batches.running, batch_id=batch.id))
        room = min(WINDOW - running, FEED_ROWS)
        rows = await self.database.read(partial(batches.waiting, batch_id=batch.id, limit=room)) if room > 0 else ()
        if not rows:
            return 0
        caller = await self.database.read(partial(accounts.owner, account_id=batch.account_id))
        made, refused = await self._made(replace(caller, tag=batch.tag), kind, batch, rows, busy=running > 0)
        if refused:
            await self.database.write(partial(batches.refuse, batch_id=batch.id, errors=refused))
        fed = await self.database.write(partial(batches.feed, batch_id=batch.id, new=made))
        for job in (job for number, job in made.items() if number in fed):
            self.publisher.publish_soon(TaskName.GENERATE, job.queue, job.id)
        return len(fed) + len(refused)

    async def _made(
        self, caller: Caller, kind: Kind, batch: Batch, rows: Sequence[BatchRow], *, busy: bool
    ) -> tuple[dict[int, NewJob], dict[int, dict[str, Any]]]:
        """The jobs that these rows become, as far as the account's limits let them, and what those that cannot say why."""
        made: dict[int, NewJob] = {}
        refused: dict[int, dict[str, Any]] = {}
        requests = await kind.requests(self, batch, rows)
        for row in rows:
            try:
                made[row.number] = await self._admitted(caller, kind, batch, row, requests.get(row.number))
            except RateLimited:
                break  # the next round asks again
            except (InsufficientCredits, BudgetExceeded) as error:
                if made or busy:
                    break  # what runs holds more than it will cost
                refused[row.number] = error.as_json()
            except TramError as error:
                if error.retryable:
                    break
                refused[row.number] = error.as_json()
        return made, refused

    async def _admitted(
        self, caller: Caller, kind: Kind, batch: Batch, row: BatchRow, request: Mapping[str, Any] | None
    ) -> NewJob:
        if request is None:
            raise NotFound("what this row was to ask is not there any more")
        lineage = Lineage(batch.id, row.source_job_id, row.conversation_id)
        body = {**request, "service_tier": Tier.FLEX.value}
        job = await self.intake.prepare(caller, body, kind.door, lineage)
        job = replace(job, deadline_ms=batch.expires_ms)
        (job,) = await admit(self.database, self.redis, caller, [job], _untold)
        return job

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


def _get(session: Session, batch_id: str) -> Batch:
    return session.get_one(Batch, batch_id)


def _untold(_: Mapping[str, str]) -> None:
    """Nobody waits who could read headers."""
