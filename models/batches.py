"""What may happen to a batch and its rows: begun, fed, settled, cancelled, expired, ended.

Each verb takes a session, makes guarded steps and never commits.  A row becomes a job in the transaction that inserts the job, and is
counted in the one that finds its job ended; both are compare-and-sets on the row's state, so each happens once, whoever dies and
however many feed.  The counts on the batch are moved by what the same statement has changed.  Times are Unix milliseconds.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from sqlalchemy import Select, Table, bindparam, delete, func, insert, select, update
from sqlalchemy.orm import Session

from models import jobs
from models.deliveries import announce_batch
from models.handover import Moved, NewJob
from models.insertion import insert_once
from models.lifecycle import FINAL, JobState
from models.tables.batches import Batch, BatchKind, BatchRow, BatchState, RowState
from models.tables.jobs import NO_RESULT, Job

SETTLE_MOST = 500
"""Rows a transaction: as many as a few milliseconds take."""
ENDED = frozenset({BatchState.COMPLETED, BatchState.FAILED, BatchState.EXPIRED, BatchState.CANCELLED})

TRANSITIONS: dict[BatchState, frozenset[BatchState]] = {
    BatchState.VALIDATING: frozenset(
        {BatchState.IN_PROGRESS, BatchState.FAILED, BatchState.EXPIRED, BatchState.CANCELLING}
    ),
    BatchState.IN_PROGRESS: frozenset({BatchState.FINALIZING, BatchState.CANCELLING}),
    BatchState.CANCELLING: frozenset({BatchState.CANCELLED}),
    BatchState.FINALIZING: frozenset(
        {BatchState.COMPLETED, BatchState.EXPIRED, BatchState.FAILED, BatchState.CANCELLING}
    ),
    **{state: frozenset() for state in ENDED},
}


@dataclass(frozen=True, slots=True)
class NewBatch:
    id: str
    account_id: str
    kind: BatchKind
    spec: dict[str, Any]
    created_ms: int
    tag: str | None = None
    meta: dict[str, str] = field(default_factory=dict)
    webhook_url: str | None = None
    expires_ms: int | None = None


@dataclass(frozen=True, slots=True)
class NewRow:
    number: int
    body: dict[str, Any] | None
    """A chat request; None: the row has failed before it could become one, and `error` says why."""
    place: int | None = None
    """None: as its number."""
    name: str | None = None
    detail: dict[str, Any] | None = None
    source_job_id: str | None = None
    conversation_id: str | None = None
    error: dict[str, Any] | None = None


def begin(session: Session, batch: NewBatch) -> None:
    """Still without rows: its kind makes them."""
    row = {name: getattr(batch, name) for name in NewBatch.__slots__}
    insert_once(session, Batch, [row | {"state": BatchState.VALIDATING}])


def add(session: Session, batch_id: str, rows: Iterable[NewRow]) -> None:
    """Rows of a batch that has not ended; those without a body count as failed at once."""
    ended_no = _ended_no(session, batch_id)
    new = [_row(batch_id, each, ended_no) for each in rows]
    if not new:
        return
    session.execute(insert(BatchRow), new)
    failed = sum(1 for each in new if each["state"] is RowState.FAILED)
    _add_up(session, batch_id, {"total": len(new), "failed": failed})


def clear(session: Session, batch_id: str) -> None:
    """Its rows go: whoever made them died on the way and begins anew, or it was cancelled before all were there."""
    assert session.scalar(select(Batch.started_ms).where(Batch.id == batch_id).with_for_update()) is None
    session.execute(delete(BatchRow).where(BatchRow.batch_id == batch_id))
    session.execute(update(Batch).where(Batch.id == batch_id).values(total=0, completed=0, failed=0))


def started(session: Session, batch_id: str, now_ms: int) -> bool:
    """All rows are there; False: it was cancelled meanwhile."""
    return _step(session, batch_id, BatchState.VALIDATING, BatchState.IN_PROGRESS, started_ms=now_ms)


def find(session: Session, account_id: str, batch_id: str, kind: BatchKind) -> Batch | None:
    mine = (Batch.id == batch_id, Batch.account_id == account_id, Batch.kind == kind)
    return session.scalar(select(Batch).where(*mine))


def running(session: Session, batch_id: str) -> int:
    return session.scalar(_rows(batch_id, RowState.RUNNING).with_only_columns(func.count())) or 0


def feed(session: Session, batch_id: str, new: Mapping[int, NewJob]) -> set[int]:
    """The rows of these numbers become these jobs; the numbers of those that did, now or when the answer to a commit was lost."""
    still = _rows(batch_id, RowState.WAITING).where(BatchRow.number.in_(new)).with_only_columns(BatchRow.number)
    fed = sorted(session.scalars(still.with_for_update()))
    if fed:
        session.execute(_FED, [{"batch": batch_id, "row": number, "job": new[number].id} for number in fed])
        jobs.submit(session, [new[number] for number in fed])
    named = select(BatchRow.number, BatchRow.job_id).where(BatchRow.batch_id == batch_id, BatchRow.number.in_(new))
    return {row.number for row in session.execute(named) if row.job_id == new[row.number].id}


def refuse(session: Session, batch_id: str, errors: Mapping[int, dict[str, Any]]) -> None:
    """Waiting rows that can never become jobs."""
    ended_no = _ended_no(session, batch_id)
    for number, error in errors.items():
        mine = (BatchRow.batch_id == batch_id, BatchRow.number == number, BatchRow.state == RowState.WAITING)
        step = update(BatchRow).where(*mine).values(state=RowState.FAILED, error=error, body=None, ended_no=ended_no)
        if session.scalar(step.returning(BatchRow.number)) is not None:
            _add_up(session, batch_id, {"failed": 1})


@dataclass(frozen=True, slots=True)
class Settled:
    row: BatchRow
    job: Job


def ended(session: Session, batch_id: str) -> list[Settled]:
    """Running rows whose jobs have ended, still to be counted; without what these answered, which not every kind looks at."""
    rows = select(BatchRow, Job).join(Job, Job.id == BatchRow.job_id).options(NO_RESULT)
    mine = (BatchRow.batch_id == batch_id, BatchRow.state == RowState.RUNNING, Job.state.in_(FINAL))
    rows = rows.where(*mine).order_by(BatchRow.number).limit(SETTLE_MOST)
    return [Settled(row.BatchRow, row.Job) for row in session.execute(rows)]


def settle(session: Session, batch_id: str, numbers: Collection[int]) -> list[int]:
    """Those of the rows, whose jobs have ended, that nobody has counted before: counted now."""
    columns = select(BatchRow.number, Job.state, *(getattr(Job, name) for name in _USED))
    rows = columns.join(Job, Job.id == BatchRow.job_id).where(BatchRow.batch_id == batch_id)
    rows = rows.where(BatchRow.number.in_(numbers), Job.state.in_(FINAL))
    found = {row.number: row for row in session.execute(rows)}
    good = {number for number, row in found.items() if row.state is JobState.COMPLETED}
    ended_no = _ended_no(session, batch_id)
    done = _move(session, batch_id, good, RowState.COMPLETED, ended_no)
    lost = _move(session, batch_id, found.keys() - good, RowState.FAILED, ended_no)
    used = {name: sum(getattr(found[number], name) or 0 for number in done | lost) for name in _USED}
    if done or lost:
        _add_up(session, batch_id, used | {"completed": len(done), "failed": len(lost)})
    return sorted(done | lost)


def remember(session: Session, batch_id: str, number: int, detail: dict[str, Any] | None) -> None:
    """None changes nothing."""
    if detail is not None:
        mine = (BatchRow.batch_id == batch_id, BatchRow.number == number)
        session.execute(update(BatchRow).where(*mine).values(detail=detail), execution_options=_PLAIN)


def cancel(session: Session, account_id: str, batch_id: str, kind: BatchKind, now_ms: int) -> BatchState | None:
    """Wishes it ended; its state now, None when there is no such batch.  Rows that wait will not run (`drop`)."""
    batch = session.scalar(
        select(Batch).where(Batch.id == batch_id, Batch.account_id == account_id, Batch.kind == kind).with_for_update()
    )
    if batch is None:
        return None
    if BatchState.CANCELLING in TRANSITIONS[batch.state]:
        batch.state, batch.cancelling_ms = BatchState.CANCELLING, now_ms
    session.flush()
    return batch.state


def cancel_all(session: Session, account_id: str, now_ms: int) -> None:
    """Wishes every batch of an account ended, of whichever kind."""
    open_states = [state for state, after in TRANSITIONS.items() if BatchState.CANCELLING in after]
    step = update(Batch).where(Batch.account_id == account_id, Batch.state.in_(open_states))
    session.execute(step.values(state=BatchState.CANCELLING, cancelling_ms=now_ms))


def expire(session: Session, batch_id: str, now_ms: int) -> bool:
    """Whether its time is over while rows are left; then that is noted, once."""
    if idle(session, batch_id):
        return False
    due = (Batch.id == batch_id, Batch.state == BatchState.IN_PROGRESS, Batch.expires_ms <= now_ms)
    step = update(Batch).where(*due).values(expired_ms=func.coalesce(Batch.expired_ms, now_ms))
    return session.scalar(step.returning(Batch.id)) is not None


def drop(session: Session, batch_id: str, error: dict[str, Any]) -> int:
    """Rows that wait fail with `error`, some at a time; how many."""
    some = _rows(batch_id, RowState.WAITING).with_only_columns(BatchRow.number).limit(SETTLE_MOST)
    dropped = sorted(session.scalars(some.with_for_update()))
    mine = (BatchRow.batch_id == batch_id, BatchRow.number.in_(dropped))
    facts = {"state": RowState.FAILED, "error": error, "body": None, "ended_no": _ended_no(session, batch_id)}
    session.execute(update(BatchRow).where(*mine).values(facts), execution_options=_PLAIN)
    _add_up(session, batch_id, {"failed": len(dropped)})
    return len(dropped)


def stop_jobs(session: Session, batch: Batch, now_ms: int) -> list[Moved]:
    """Cancels the jobs that its rows have become; how those stand that this has moved or told."""
    mine = _rows(batch.id, RowState.RUNNING).with_only_columns(BatchRow.job_id)
    open_jobs = select(Job.id).where(Job.id.in_(mine), Job.cancel_requested_ms.is_(None), Job.state.not_in(FINAL))
    moved = [jobs.cancel(session, batch.account_id, name, now_ms) for name in session.scalars(open_jobs).all()]
    return [each for each in moved if each is not None]


def idle(session: Session, batch_id: str) -> bool:
    """Whether no row waits or runs."""
    left = select(BatchRow.number).where(BatchRow.batch_id == batch_id)
    return not any(
        session.scalar(left.where(BatchRow.state == state).limit(1)) is not None
        for state in (RowState.WAITING, RowState.RUNNING)
    )


def finalize(session: Session, batch_id: str, now_ms: int) -> bool:
    """Every row has ended; False when that is not so, or not the case any more."""
    if not idle(session, batch_id):
        return False
    return _step(session, batch_id, BatchState.IN_PROGRESS, BatchState.FINALIZING, finalizing_ms=now_ms)


def end(
    session: Session,
    batch: Batch,
    state: BatchState,
    event: str,
    now_ms: int,
    *,
    errors: list[dict[str, Any]] | None = None,
    output: dict[str, Any] | None = None,
) -> bool:
    """The end state and its webhook delivery, together or not at all; False: somebody was quicker."""
    facts = {"ended_ms": now_ms, "errors": errors, "output": output, "holder": None}
    if not _step(session, batch.id, batch.state, state, **facts):
        return False
    announce_batch(session, batch, event, now_ms)
    return True


def last_state(batch: Batch) -> BatchState:
    """How a batch ends whose rows have all ended."""
    if batch.cancelling_ms is not None:
        return BatchState.CANCELLED
    return BatchState.COMPLETED if batch.expired_ms is None else BatchState.EXPIRED


def _row(batch_id: str, new: NewRow, ended_no: int) -> dict[str, Any]:
    row = {name: getattr(new, name) for name in NewRow.__slots__}
    state = RowState.FAILED if new.body is None else RowState.WAITING
    place = new.number if new.place is None else new.place
    failed_no = ended_no if state is RowState.FAILED else None
    return row | {"batch_id": batch_id, "state": state, "place": place, "ended_no": failed_no}


def _rows(batch_id: str, state: RowState) -> Select[BatchRow]:
    return select(BatchRow).where(BatchRow.batch_id == batch_id, BatchRow.state == state)


def _ended_no(session: Session, batch_id: str) -> int:
    """The batch is held from here on: of two that count, the second sees what the first has counted."""
    counted = select(Batch.completed + Batch.failed).where(Batch.id == batch_id).with_for_update()
    return session.scalars(counted).one()


def _move(session: Session, batch_id: str, numbers: Collection[int], state: RowState, ended_no: int) -> set[int]:
    """Those that this has moved."""
    step = update(BatchRow).where(BatchRow.batch_id == batch_id, BatchRow.number.in_(numbers))
    step = step.where(BatchRow.state == RowState.RUNNING).values(state=state, ended_no=ended_no)
    return set(session.scalars(step.returning(BatchRow.number), execution_options=_PLAIN)) if numbers else set()


def _add_up(session: Session, batch_id: str, more: Mapping[str, int]) -> None:
    added = {name: getattr(Batch, name) + amount for name, amount in more.items()}
    session.execute(update(Batch).where(Batch.id == batch_id).values(added), execution_options=_PLAIN)


def _step(session: Session, batch_id: str, before: BatchState, after: BatchState, **facts: Any) -> bool:
    assert after in TRANSITIONS[before], f"{before} -> {after} is not in the transition table"
    step = update(Batch).where(Batch.id == batch_id, Batch.state == before).values(state=after, **facts)
    return session.scalar(step.returning(Batch.id)) is not None


_PLAIN = {"synchronize_session": False}  # who holds a row of before knows that it is of before
_USED = ("prompt_tokens", "completion_tokens", "cached_tokens", "cost_micros")
_TABLE = cast("Table", BatchRow.__table__)
_FED = (
    _TABLE.update()
    .where(_TABLE.c.batch_id == bindparam("batch"), _TABLE.c.number == bindparam("row"))
    .values(state=RowState.RUNNING, job_id=bindparam("job"), body=None)
)
