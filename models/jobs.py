"""What may happen to a job: submitted, claimed, renewed, handed back, cancelled, ended.

Each verb takes a session, makes one guarded step and never commits.  A step is a compare-and-set on the row, fenced by state
and attempt number: whoever comes late changes nothing and is told so (`None`, `False`, or absent from the answer).  Verbs may be
run again after a rollback (`infra.database` batches them), so they touch nothing but the session.  Times are Unix milliseconds.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any, cast

from sqlalchemy import Executable, Row, Table, Update, bindparam, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from models.deliveries import FORGET_MS, TRIED_MS, announce
from models.handover import Claimed, Doomed, Ending, Moved, NewJob, Renewed
from models.lifecycle import FINAL, TRANSITIONS, JobState
from models.limits import cost_micros, settlement
from models.tables.base import Milliseconds
from models.tables.jobs import Door, Job
from models.transcripts import JOB_FACTS, record
from models.usage import charge

log = logging.getLogger(__name__)

LEASE_MS = 12_000
"""How long a silent worker keeps its jobs; with a sweep each second they run again within 15 s."""
MAX_ATTEMPTS = 5
"""A job that loses five workers most likely kills them."""
PUBLISH_DOUBT_MS = 10_000
"""After this long in the queue, `upkeep` asks whether the broker still holds the message."""


def submit(session: Session, jobs: Iterable[NewJob]) -> None:
    session.execute(_SUBMITTED[session.get_bind().dialect.name], [_columns(job) for job in jobs])


def submitted(job: NewJob) -> Job:
    """The row as `submit` has written it, of no session."""
    return Job(**_columns(job))


def _columns(job: NewJob) -> dict[str, Any]:
    facts = {"state": JobState.QUEUED, "attempt": 1, "publish_due_ms": job.created_ms + PUBLISH_DOUBT_MS}
    return {name: getattr(job, name) for name in NewJob.__slots__} | facts


def claim(session: Session, job_id: str, worker: str, now_ms: int) -> Claimed | None:
    """None: somebody else has it, it has ended, its deadline has passed, or its owner wants it stopped."""
    told = {"job_id": job_id, "worker": worker, "now_ms": now_ms, "lease_ms": now_ms + LEASE_MS}
    row = session.execute(_CLAIM, told).one_or_none()
    return None if row is None else Claimed(*row)


def renew(session: Session, worker: str, ids: Collection[str], now_ms: int) -> list[Renewed]:
    """Extends the leases this worker still holds; a job absent from the answer is no longer its own."""
    step = (
        update(Job)
        .where(Job.id.in_(ids), Job.worker == worker, Job.state == JobState.IN_PROGRESS)
        .values(lease_until_ms=now_ms + LEASE_MS)
        .returning(Job.id, Job.attempt, Job.cancel_requested_ms)
    )
    return [Renewed(row.id, row.attempt, row.cancel_requested_ms is not None) for row in session.execute(step)]


def finish(session: Session, job_id: str, attempt: int, ending: Ending) -> bool:
    """The end state, the transcript, the charge and the webhook delivery, together or not at all; False: this attempt came too late.

    A repetition, after a commit whose answer was lost, finds its own end there.
    """
    ended = _end(session, job_id, JobState.IN_PROGRESS, ending, attempt=attempt) is not None
    return ended or _stands(session, job_id, attempt, ending)


def hand_back(session: Session, job_id: str, attempt: int, now_ms: int, error: dict[str, Any]) -> Moved | None:
    """An attempt ended without an answer, through no fault of the request: to its queue, unless a wish or the count ends it."""
    mine = (Job.id == job_id, Job.attempt == attempt, Job.state == JobState.IN_PROGRESS)
    wish = session.execute(select(Job.cancel_requested_ms).where(*mine).with_for_update()).one_or_none()
    if wish is None:
        return None
    if wish.cancel_requested_ms is not None:
        return _end(session, job_id, JobState.IN_PROGRESS, Ending(JobState.CANCELLED, now_ms))
    if attempt >= MAX_ATTEMPTS:
        return _end(session, job_id, JobState.IN_PROGRESS, Ending(JobState.FAILED, now_ms, error=error))
    step = (
        _step(JobState.IN_PROGRESS, JobState.QUEUED)
        .where(*mine)
        .values(attempt=Job.attempt + 1, worker=None, lease_until_ms=None, publish_due_ms=now_ms + PUBLISH_DOUBT_MS)
        .returning(Job.id, Job.attempt, Job.queue, Job.state)
    )
    return Moved(*session.execute(step).one())


def reclaim(session: Session, now_ms: int, error: dict[str, Any], limit: int = 500) -> list[Moved]:
    """Jobs whose worker fell silent: each to its queue again, or failed when it has used up its attempts."""
    lost = select(Job.id, Job.attempt).where(Job.state == JobState.IN_PROGRESS, Job.lease_until_ms < now_ms)
    rows = session.execute(lost.limit(limit).with_for_update()).all()  # a lease renewed meanwhile is no longer lost
    return _each(session, [partial(hand_back, session, row.id, row.attempt, now_ms, error) for row in rows])


def cancel(session: Session, account_id: str, job_id: str, now_ms: int) -> Moved | None:
    """Ends a queued job, wishes a running one ended; how it stands now, or None when there is no such job.

    IN_PROGRESS means that the worker has still to be told.
    """
    mine = (Job.id == job_id, Job.account_id == account_id)
    held = select(Job.id, Job.attempt, Job.queue, Job.state).where(*mine).with_for_update()
    row = session.execute(held).one_or_none()
    if row is None:
        return None
    if row.state is JobState.QUEUED:
        return _end(session, job_id, JobState.QUEUED, Ending(JobState.CANCELLED, now_ms))
    wish = update(Job).where(*mine, Job.state == JobState.IN_PROGRESS, Job.cancel_requested_ms.is_(None))
    session.execute(wish.values(cancel_requested_ms=now_ms))
    return Moved(*row)


def expire_queued(session: Session, now_ms: int, error: dict[str, Any], limit: int = 500) -> list[Moved]:
    """Queued jobs past their deadline never touch the GPU."""
    late = select(Job.id).where(Job.state == JobState.QUEUED, Job.deadline_ms <= now_ms).limit(limit)
    ending = Ending(JobState.EXPIRED, now_ms, error=error)
    return _each(session, [partial(_end, session, job, JobState.QUEUED, ending) for job in session.scalars(late).all()])


def forget(session: Session, now_ms: int, limit: int = 500) -> list[Doomed]:
    """Drops the answers of `store: false` jobs whose time is over.

    They stay due, as deleted jobs are, until it is told by `forgotten` that the object store holds nothing of them.
    """
    due = select(Job.id, Job.attempt).where(Job.forget_due_ms <= now_ms).limit(limit)
    doomed = [Doomed(*row) for row in session.execute(due)]
    step = update(Job).where(Job.id.in_([job.job_id for job in doomed]))
    session.execute(step.values(result=None, result_key=None))
    return doomed


def forgotten(session: Session, ids: Collection[str]) -> None:
    session.execute(update(Job).where(Job.id.in_(ids)).values(forget_due_ms=None))


def describe(session: Session, job_id: str, meta: dict[str, str]) -> None:
    """Its owner's notes on it; one that was deleted meanwhile gets none."""
    session.execute(update(Job).where(Job.id == job_id, Job.deleted_ms.is_(None)).values(meta=meta))


def find(session: Session, account_id: str, job_id: str) -> Job | None:
    return session.scalar(select(Job).where(Job.id == job_id, Job.account_id == account_id, Job.deleted_ms.is_(None)))


def _each(session: Session, steps: Sequence[Callable[[], Moved | None]]) -> list[Moved]:
    """Each step by itself: one job that cannot be moved must not hold up the others, this round and every round."""
    moved = []
    for step in steps:
        try:
            with session.begin_nested():
                moved.append(step())
        except (SQLAlchemyError, ValueError, TypeError, AssertionError):
            log.exception("a job could not be moved; the next round tries again")
    return [move for move in moved if move is not None]


def _step(before: JobState, after: JobState) -> Update:
    _allow(before, after)
    return update(Job).where(Job.state == before).values(state=after)


def _allow(before: JobState, after: JobState) -> None:
    assert after in TRANSITIONS[before], f"{before} -> {after} is not in the transition table"


def _end(
    session: Session, job_id: str, before: JobState, ending: Ending, *, attempt: int | None = None
) -> Moved | None:
    """The one way into an end state: None when the step is not allowed (any more).  The row is locked before it is looked at."""
    assert ending.state in FINAL & TRANSITIONS[before], f"{before} cannot end as {ending.state}"
    job = session.execute(_LOCKED, {"job_id": job_id}).one_or_none()
    if job is None or job.state is not before or attempt not in {None, job.attempt}:
        return None
    told = job.store and job.door is not Door.EVAL  # a sample is no conversation of anybody's
    conversation_id = record(session, job, ending.answers, ending.at_ms) if told else None
    cost = cost_micros(job.card, ending.prompt_tokens, ending.completion_tokens)
    columns = {name: getattr(ending, name) for name in _KEPT} | _remains(job, ending) | {"cost_micros": cost}
    session.execute(_ENDED, columns | {"job": job.id, "ended_ms": ending.at_ms, "conversation_id": conversation_id})
    charge(session, job, ending, cost)
    announce(session, job, ending.state, ending.at_ms)
    return Moved(job.id, job.attempt, job.queue, ending.state, settlement(job, ending))


def _stands(session: Session, job_id: str, attempt: int, ending: Ending) -> bool:
    this = (
        Job.state == ending.state,
        Job.ended_ms == ending.at_ms,
        Job.result_key.is_not_distinct_from(ending.result_key),
    )
    return session.scalar(select(Job.id).where(Job.id == job_id, Job.attempt == attempt, *this)) is not None


def _remains(job: Row[Any], ending: Ending) -> dict[str, Any]:
    """Of a job that is not to be stored: nothing, but an answer its owner has an hour to fetch, or until the webhook is settled."""
    if job.store:
        return {"parameters": job.parameters, "forget_due_ms": None}
    if job.door is Door.CHAT:
        return {"parameters": None, "result": None, "result_key": None, "forget_due_ms": None}
    if job.door is Door.BATCH:  # its batch's file is to hold it, and then lets go (`models.batch_results`)
        return {"parameters": None, "forget_due_ms": None}
    tried_ms = 0 if job.webhook_url is None else TRIED_MS
    return {"parameters": None, "forget_due_ms": ending.at_ms + tried_ms + FORGET_MS}


# Submission, claim and end are what every job costs, so their statements are built once, and go round the ORM.
_TABLE = cast("Table", Job.__table__)
# A repetition after a lost answer finds its own row there.
_SUBMITTED: dict[str, Executable] = {
    "postgresql": postgresql.insert(_TABLE).on_conflict_do_nothing(),
    "sqlite": sqlite.insert(_TABLE).on_conflict_do_nothing(),
}
_C = _TABLE.c
_NOW = bindparam("now_ms", type_=Milliseconds)
_allow(JobState.QUEUED, JobState.IN_PROGRESS)
_CLAIM = (
    _TABLE.update()
    .where(_C.id == bindparam("job_id"), _C.state == JobState.QUEUED, _C.cancel_requested_ms.is_(None))
    .where(or_(_C.deadline_ms.is_(None), _C.deadline_ms > _NOW))
    .values(state=JobState.IN_PROGRESS, worker=bindparam("worker"), publish_due_ms=None)
    .values(lease_until_ms=bindparam("lease_ms"), started_ms=func.coalesce(_C.started_ms, _NOW))
    .returning(*(_C[name] for name in Claimed.__slots__))
)
_OWN_FACTS = ("attempt", "queue", "state", "store", "webhook_url", "parameters")
_FACTS = (*JOB_FACTS, *_OWN_FACTS, "model", "card", "parent_id", "tag", "held_micros")
_LOCKED = select(*(_C[name] for name in _FACTS)).where(_C.id == bindparam("job_id")).with_for_update()
_KEPT = tuple(name for name in Ending.__slots__ if name not in {"at_ms", "answers"})
_WRITTEN = (*_KEPT, "cost_micros", "parameters", "forget_due_ms", "ended_ms", "conversation_id")
_CLEARED = ("lease_until_ms", "publish_due_ms", "messages", "chain")  # the transcript tree holds the messages now
_ENDED = (
    _TABLE.update()
    .where(_C.id == bindparam("job"))
    .values({name: bindparam(name) for name in _WRITTEN} | dict.fromkeys(_CLEARED))
)
