"""What have a batch's rows come to, in pages?  Each with its job, read in the order of the file or in that in which they ended.

Relies on `models.batches`, which writes what is read here.  The answers of jobs that are not to be stored stay until the batch's file
holds them, and are let go of in the transaction that makes the file one to be seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Select, select, tuple_, update
from sqlalchemy.orm import Session

from models import files
from models.errors import Conflict
from models.files import NewFile
from models.tables.batches import Batch, BatchRow, RowState
from models.tables.jobs import Job

PAGE_ROWS = 25
"""Answers of up to 32 KiB, deflated, lie in their rows, and are unpacked as these are read: up to a megabyte each."""


@dataclass(frozen=True, slots=True)
class Ended:
    row: BatchRow
    job: Job | None


def of_state(session: Session, batch_id: str, state: RowState, after: int) -> list[Ended]:
    """In the order of the file, behind the row of number `after`."""
    rows = _with_jobs(batch_id).where(BatchRow.state == state, BatchRow.number > after)
    return [Ended(*each) for each in session.execute(rows.order_by(BatchRow.number).limit(PAGE_ROWS))]


def as_they_ended(session: Session, batch_id: str, after: int | None, limit: int) -> list[Ended]:
    """Behind the row of number `after`: a later look finds what has ended since, and nothing twice."""
    order = (BatchRow.ended_no, BatchRow.number)
    rows = _with_jobs(batch_id).where(BatchRow.ended_no.is_not(None))
    if after is not None:
        mine = (BatchRow.batch_id == batch_id, BatchRow.number == after)
        seen = session.scalar(select(BatchRow.ended_no).where(*mine))
        rows = rows.where(tuple_(*order) > (seen or 0, after))
    return [Ended(*each) for each in session.execute(rows.order_by(*order).limit(limit))]


def store(session: Session, batch: Batch, made: Sequence[NewFile], now_ms: int) -> None:
    """The batch's files are there to be seen, and hold what was not to be stored."""
    for new in made:
        if not files.store(session, new):
            raise Conflict(f"the file {new.id} was given up")
    kept = (Job.batch_id == batch.id, Job.store.is_(False), Job.forget_due_ms.is_(None))
    session.execute(update(Job).where(*kept).values(forget_due_ms=now_ms))


def _with_jobs(batch_id: str) -> Select[BatchRow, Job]:
    rows = select(BatchRow, Job).outerjoin(Job, Job.id == BatchRow.job_id)
    return rows.where(BatchRow.batch_id == batch_id)
