"""How do rows of a batch whose time has come become jobs?  Prepared beside one another, admitted one by one, written and published together.

A limit of the account's makes a row wait, and all behind it; what no limit will ever let through, or what is wrong with a request, is
written to its row, which has failed.  Which rows these are and what they ask is for `workers.batch` to say.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from redis.asyncio import Redis

from infra.admission import admit, give_back
from infra.broker import Publisher, TaskName
from infra.database import Database
from infra.intake import Intake
from models import accounts, batches
from models.accounts import Caller
from models.errors import BudgetExceeded, InsufficientCredits, NotFound, TramError
from models.handover import NewJob
from models.placement import Tier
from models.requests import Lineage
from models.tables.batches import Batch, BatchRow
from models.tables.jobs import Door

log = logging.getLogger(__name__)

PREPARED_AT_ONCE = 8
"""Rows: an image may take ten seconds to come."""
_OVER_A_BODY = (ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class Fed:
    moved: int
    """Rows that became jobs, or were refused."""
    looked_at: int
    """Rows before the first that has to wait."""


@dataclass(frozen=True, slots=True)
class RowFeed:
    """Of one batch."""

    database: Database
    redis: Redis
    publisher: Publisher
    intake: Intake
    batch: Batch
    door: Door

    async def feed(self, rows: Sequence[BatchRow], requests: Mapping[int, Mapping[str, Any]]) -> Fed:
        """`requests` are the rows' chat requests, by number; a row that has none any more has failed."""
        owner = await self.database.read(partial(accounts.owner, account_id=self.batch.account_id))
        caller = replace(owner, tag=self.batch.tag)
        made, refused = await self._admitted(caller, await self._prepared(caller, rows, requests))
        if refused:
            await self.database.write(partial(batches.refuse, batch_id=self.batch.id, errors=refused))
        begun = await self._begun(caller, made)
        return Fed(len(refused) + begun, len(refused) + len(made))

    async def _prepared(
        self, caller: Caller, rows: Sequence[BatchRow], requests: Mapping[int, Mapping[str, Any]]
    ) -> dict[int, NewJob | TramError]:
        """The jobs that these rows would become, or what is wrong with them; before any is admitted, as an image takes seconds."""
        places = asyncio.Semaphore(PREPARED_AT_ONCE)

        async def one(row: BatchRow) -> NewJob | TramError:
            try:
                async with places:
                    return await self._job(caller, row, requests.get(row.number))
            except TramError as error:
                return error
            except _OVER_A_BODY:
                log.exception("row %d of %s could not be prepared, now or ever", row.number, self.batch.id)
                return TramError("this row could not be made a request; the server's log says why")

        found = await asyncio.gather(*map(one, rows))
        return {row.number: each for row, each in zip(rows, found, strict=True)}

    async def _job(self, caller: Caller, row: BatchRow, request: Mapping[str, Any] | None) -> NewJob:
        if request is None:
            raise NotFound("what this row was to ask is not there any more")
        lineage = Lineage(self.batch.id, row.source_job_id, row.conversation_id)
        body = {**request, "service_tier": Tier.FLEX.value}
        job = await self.intake.prepare(caller, body, self.door, lineage)
        return replace(job, deadline_ms=self.batch.expires_ms)

    async def _admitted(
        self, caller: Caller, prepared: Mapping[int, NewJob | TramError]
    ) -> tuple[dict[int, NewJob], dict[int, dict[str, Any]]]:
        """Jobs, as far as the account's limits let them begin, and what those that never can say why."""
        made: dict[int, NewJob] = {}
        refused: dict[int, dict[str, Any]] = {}
        for number, found in prepared.items():
            try:
                made[number] = await self._admit(caller, found)
            except (InsufficientCredits, BudgetExceeded) as error:
                if error.bound:
                    break  # what is open, of whichever batch or chat, holds more than it will cost
                refused[number] = error.as_json()
            except TramError as error:
                if error.retryable:
                    break  # the next round asks again
                refused[number] = error.as_json()
        return made, refused

    async def _admit(self, caller: Caller, found: NewJob | TramError) -> NewJob:
        if isinstance(found, TramError):
            raise found
        (job,) = await admit(self.database, self.redis, caller, [found], lambda _: None)
        return job

    async def _begun(self, caller: Caller, made: Mapping[int, NewJob]) -> int:
        """How many have become jobs; the others' rows were fed or dropped meanwhile."""
        if not made:
            return 0
        fed: set[int] = await self.database.write(partial(batches.feed, batch_id=self.batch.id, new=made))
        for number, job in made.items():
            if number in fed:
                self.publisher.publish_soon(TaskName.GENERATE, job.queue, job.id)
        if lost := [job for number, job in made.items() if number not in fed]:
            await give_back(self.redis, caller, lost)
        return len(fed)
