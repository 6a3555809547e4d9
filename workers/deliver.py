"""How do webhooks leave the house?  Rounds: take what is due, send it, write down what came of it.

No queue of its own: the rows have due times, a round finds them, and a nudge from whoever ended a job starts the next round at once.
A hundred endings cost one query, not a hundred messages.  A receiver that hangs holds its own few places only, however much is due
there, and an account whose receivers all hang no more than half.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from sqlalchemy.orm import Session

from infra.clock import now_ms
from infra.database import Database
from infra.objects import ObjectStore
from infra.outbound import Outbound, Unreachable
from infra.results import result_of
from models import accounts, deliveries
from models.deliveries import Due, Outcome, Taken, host_of
from models.errors import Unavailable
from models.tables.batches import Batch
from models.tables.jobs import Job
from models.webhooks import event_body, sign
from models.wire.jobs import job_view
from models.wire.progress import progress_view

log = logging.getLogger(__name__)

AT_ONCE = 64
AT_ONCE_A_HOST = 16
"""A receiver that takes its 15 seconds each time must leave room for the others."""
AT_ONCE_AN_ACCOUNT = 32
"""So must whoever has four of them."""
_WINDOW = 4 * AT_ONCE


@dataclass
class Deliverer:
    database: Database
    objects: ObjectStore
    outbound: Outbound
    public_url: str
    """Where receivers find the API, for results that are too large to be sent."""
    _sending: set[asyncio.Task[None]] = field(default_factory=set)
    _hosts: Counter[str] = field(default_factory=Counter)
    _accounts: Counter[str] = field(default_factory=Counter)

    async def round(self) -> None:
        """Starts sending what is due, as far as there is room."""
        room, more = AT_ONCE - len(self._sending), True
        while room > 0 and more:
            due = await self.database.read(self._due())
            chosen = self._chosen(due, room)
            taken = await asyncio.gather(*(self._take(delivery_id) for delivery_id in chosen))
            for delivery in taken:
                if delivery is not None:
                    self._start(delivery)
            room -= len(chosen)
            more = len(due) == _WINDOW and any(taken)  # what stood first may have been more of the same

    async def close(self) -> None:
        """What is under way is given up; its due time brings it back."""
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)

    def _due(self) -> Callable[[Session], list[Due]]:
        """Without those who have all their places: they would fill the window, and nobody else be found."""
        hosts = [host for host, count in self._hosts.items() if count >= AT_ONCE_A_HOST]
        accounts = [account for account, count in self._accounts.items() if count >= AT_ONCE_AN_ACCOUNT]
        return partial(deliveries.due, now_ms=now_ms(), limit=_WINDOW, hosts=hosts, accounts=accounts)

    def _chosen(self, due: list[Due], room: int) -> list[str]:
        hosts, accounts = self._hosts.copy(), self._accounts.copy()
        chosen: list[str] = []
        for each in due:
            host, account = host_of(each.url), each.account_id
            if hosts[host] < AT_ONCE_A_HOST and accounts[account] < AT_ONCE_AN_ACCOUNT and len(chosen) < room:
                hosts[host] += 1
                accounts[account] += 1
                chosen.append(each.id)
        return chosen

    async def _take(self, delivery_id: str) -> Taken | None:
        return await self.database.write(partial(deliveries.take, delivery_id=delivery_id, now_ms=now_ms()))

    def _start(self, taken: Taken) -> None:
        self._count(taken, 1)
        task = asyncio.create_task(self._send(taken))
        self._sending.add(task)

        def done(ended: "asyncio.Task[None]") -> None:
            self._sending.discard(ended)
            self._count(taken, -1)
            if not ended.cancelled() and (error := ended.exception()):
                log.error("a delivery broke", exc_info=error)

        task.add_done_callback(done)

    def _count(self, taken: Taken, change: int) -> None:
        for places, holder in ((self._hosts, host_of(taken.url)), (self._accounts, taken.account_id)):
            places[holder] += change
            if not places[holder]:
                del places[holder]  # there are ever more hosts

    async def _send(self, taken: Taken) -> None:
        outcome = await self._outcome(taken)
        settle = partial(
            deliveries.settle,
            taken=taken,
            outcome=outcome,
            now_ms=now_ms(),
            jitter=random.uniform(-1, 1),  # noqa: S311
        )
        await self.database.write(settle)

    async def _outcome(self, taken: Taken) -> Outcome:
        """What cannot be told (its answer's object is damaged, say) counts as tried, too, and is given up in the end."""
        began = now_ms()
        try:
            return await self._attempt(taken)
        except Unavailable:
            raise  # the database is away: its due time brings it back
        except Exception:
            log.exception("%s could not be made", taken.event_id)
            return Outcome(began, 0, None, False, "the event could not be made; the server's log says why", None, None)

    async def _attempt(self, taken: Taken) -> Outcome:
        ended, secrets = await self.database.read(partial(_facts, taken=taken))
        body = self._batch_body(taken, ended) if isinstance(ended, Batch) else await self._body(taken, ended)
        started = now_ms()
        # AIGateway's verifier reads one signature only: during a rotation each secret has its turn to be that one.
        order = secrets if taken.attempts % 2 else secrets[::-1]
        headers = sign(tuple(order), taken.event_id, started // 1000, body) | {"content-type": "application/json"}
        try:
            answer = await self.outbound.post(taken.url, body, headers)
        except Unreachable as error:
            took = now_ms() - started
            return Outcome(started, took, None, error.reason == "timeout", str(error)[:300], None, None)
        excerpt = answer.excerpt
        return Outcome(started, answer.duration_ms, answer.status, False, None, excerpt, answer.retry_after_s)

    async def _body(self, taken: Taken, job: Job) -> bytes:
        """The same bytes at every attempt: all of it was settled when the job ended."""
        data = job_view(job)
        result = await self._result(job)
        if result is not None:
            data["result"] = result["completion"]
        at = datetime.fromtimestamp(taken.created_ms / 1000, UTC)
        return event_body(taken.event_id, taken.type, at, data, result_url=f"{self.public_url}/v1/jobs/{job.id}")

    def _batch_body(self, taken: Taken, batch: Batch) -> bytes:
        at = datetime.fromtimestamp(taken.created_ms / 1000, UTC)
        return event_body(taken.event_id, taken.type, at, progress_view(batch), result_url="")

    async def _result(self, job: Job) -> "dict[str, object] | None":
        try:
            return await result_of(self.objects, job)
        except Unavailable as error:
            log.warning("the result of %s cannot be read, so its webhook goes without: %s", job.id, error.message)
            return None


def _facts(session: Session, taken: Taken) -> tuple[Job | Batch, list[str]]:
    secrets = accounts.signing_secrets(session, taken.account_id, now_ms())
    if taken.batch_id is not None:
        return session.get_one(Batch, taken.batch_id), secrets
    return session.get_one(Job, taken.job_id), secrets
