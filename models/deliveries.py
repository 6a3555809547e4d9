"""What must still be told to somebody's server?  One delivery an end state, tried until it arrives or the schedule is used up.

The row is made in the transaction that ends the job, so the two cannot part.  Due times are columns, swept by `upkeep`; a
sender takes a delivery by moving its due time past its own time limit and raising `attempts`, which fences what it reports.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from sqlalchemy import Row, Table, func, insert, select, update
from sqlalchemy.orm import Session

from models import ids
from models.lifecycle import JobState
from models.tables.batches import Batch
from models.tables.jobs import Job
from models.tables.webhooks import Delivery, DeliveryAttempt, DeliveryState
from models.webhooks import SCHEDULE_S, Verdict, completion_event, next_due, verdict

SEND_LEASE_MS = 60_000
"""Above the 15-second limit of one attempt: a sender that dies gives the delivery up after this."""
FORGET_MS = 3_600_000
"""How long the answer of a job with `store: false` can be fetched, if no webhook takes it."""
TRIED_MS = 2 * sum(SCHEDULE_S) * 1000
"""A delivery is settled by then, and says when the answer goes: receivers may double each step, no more."""
_PATH = re.compile("[/?#]")
_FORGOTTEN_AFTER_MS = {DeliveryState.DELIVERED: 0, DeliveryState.FAILED: FORGET_MS}


@dataclass(frozen=True, slots=True)
class Due:
    id: str
    account_id: str
    url: str


@dataclass(frozen=True, slots=True)
class Taken:
    """A delivery in one sender's hands."""

    id: str
    account_id: str
    event_id: str
    job_id: str | None
    batch_id: str | None
    type: str
    url: str
    attempts: int
    created_ms: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one attempt; `status` is None when no answer came, and then `error` says why."""

    started_ms: int
    duration_ms: int
    status: int | None
    timed_out: bool
    error: str | None
    excerpt: str | None
    retry_after_s: float | None


def announce(session: Session, job: Row[Any], state: JobState, now_ms: int) -> None:
    """Called with the step into an end state, inside its transaction."""
    if job.webhook_url is not None:
        _announce(session, job, completion_event(state), now_ms, job_id=job.id)


def announce_batch(session: Session, batch: Batch, event: str, now_ms: int) -> None:
    """The same for a batch; `event` is the event's type."""
    if batch.webhook_url is not None:
        _announce(session, batch, event, now_ms, batch_id=batch.id)


def _announce(session: Session, ended: Any, event: str, now_ms: int, **subject: str) -> None:
    row = {
        "id": ids.new("dlv"),
        "account_id": ended.account_id,
        "event_id": ids.new("evt"),
        "job_id": None,
        "batch_id": None,
        "type": event,
        "url": ended.webhook_url,
        "state": DeliveryState.PENDING,
        "attempts": 0,
        "due_ms": now_ms,
        "created_ms": now_ms,
    }
    session.execute(_DELIVERIES.insert(), [row | subject])


_DELIVERIES = cast("Table", Delivery.__table__)


def due(
    session: Session, now_ms: int, limit: int, *, hosts: Collection[str] = (), accounts: Collection[str] = ()
) -> list[Due]:
    """The longest due first, but for what goes to these hosts and what is told for these accounts."""
    waiting = select(Delivery.id, Delivery.account_id, Delivery.url)
    waiting = waiting.where(Delivery.state == DeliveryState.PENDING, Delivery.due_ms <= now_ms)
    for host in hosts:
        begun = [host + following for following in ("", "/", "?", "#")]
        waiting = waiting.where(func.substr(Delivery.url, 1, len(host) + 1).not_in(begun))
    if accounts:
        waiting = waiting.where(Delivery.account_id.not_in(accounts))
    return [Due(*row) for row in session.execute(waiting.order_by(Delivery.due_ms).limit(limit))]


def host_of(url: str) -> str:
    """All that stands before the path, as it is written (`due` compares it so): two ports of a machine are two hosts."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{_PATH.split(rest, maxsplit=1)[0]}"


def take(session: Session, delivery_id: str, now_ms: int) -> Taken | None:
    """None: it is not due, or another sender has it."""
    step = (
        update(Delivery)
        .where(Delivery.id == delivery_id, Delivery.state == DeliveryState.PENDING, Delivery.due_ms <= now_ms)
        .values(attempts=Delivery.attempts + 1, due_ms=now_ms + SEND_LEASE_MS)
        .returning(*[getattr(Delivery, name) for name in Taken.__slots__])
    )
    row = session.execute(step).one_or_none()
    return None if row is None else Taken(*row)


def settle(session: Session, taken: Taken, outcome: Outcome, now_ms: int, jitter: float) -> DeliveryState | None:
    """Writes the attempt down and decides what is next; None: this sender was too slow, another has taken over."""
    columns = _after(taken, outcome, now_ms, jitter)
    step = update(Delivery).where(
        Delivery.id == taken.id, Delivery.attempts == taken.attempts, Delivery.state == DeliveryState.PENDING
    )
    session.execute(insert(DeliveryAttempt), [_attempt(taken, outcome)])
    state = session.execute(step.values(**columns).returning(Delivery.state)).scalar_one_or_none()
    if state in _FORGOTTEN_AFTER_MS:
        due_ms = now_ms + _FORGOTTEN_AFTER_MS[state]
        forget = update(Job).where(
            Job.id == taken.job_id, Job.forget_due_ms > due_ms
        )  # never put off: it may be deleted
        session.execute(forget.values(forget_due_ms=due_ms))
    return state


def find(session: Session, account_id: str, delivery_id: str) -> Delivery | None:
    return session.scalar(select(Delivery).where(Delivery.id == delivery_id, Delivery.account_id == account_id))


def attempts_of(session: Session, deliveries: Sequence[str]) -> dict[str, list[DeliveryAttempt]]:
    rows = select(DeliveryAttempt).where(DeliveryAttempt.delivery_id.in_(deliveries)).order_by(DeliveryAttempt.number)
    found: dict[str, list[DeliveryAttempt]] = {delivery: [] for delivery in deliveries}
    for row in session.scalars(rows):
        found[row.delivery_id].append(row)
    return found


def _after(taken: Taken, outcome: Outcome, now_ms: int, jitter: float) -> dict[str, object]:
    found = verdict(outcome.status, timed_out=outcome.timed_out)
    if found is Verdict.DELIVERED:
        return {"state": DeliveryState.DELIVERED, "due_ms": None, "ended_ms": now_ms}
    now, slowly = datetime.fromtimestamp(now_ms / 1000, UTC), found is Verdict.RETRY_SLOWLY
    again = next_due(taken.attempts, now, outcome.retry_after_s, jitter, slowly=slowly)
    if found is Verdict.GONE or again is None:
        return {"state": DeliveryState.FAILED, "due_ms": None, "ended_ms": now_ms}
    return {"due_ms": int(again.timestamp() * 1000)}


def _attempt(taken: Taken, outcome: Outcome) -> dict[str, object]:
    return {
        "delivery_id": taken.id,
        "number": taken.attempts,
        "started_ms": outcome.started_ms,
        "duration_ms": outcome.duration_ms,
        "status": outcome.status,
        "error": outcome.error,
        "excerpt": None if outcome.excerpt is None else outcome.excerpt.replace("\0", ""),
    }
