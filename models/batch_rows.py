"""Who makes a batch's rows?  The feeder that holds it: all of them, or whoever holds it next begins anew.

A feeder may be away for longer than its lease (its process was stopped, the database did not answer) and come back while another makes
the same rows.  So each step is one of the holder's, under the batch's lock, and the last one counts what is there.  Verbs never
commit, and raise Conflict for whoever is not the holder any more, and once the batch is cancelled.
"""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models import batches
from models.batches import NewRow
from models.errors import Conflict
from models.tables.batches import Batch, BatchRow, BatchState


def clear(session: Session, batch_id: str, holder: str) -> None:
    """Comes first: what somebody else has left goes."""
    _hold(session, batch_id, holder)
    batches.clear(session, batch_id)


def add(session: Session, batch_id: str, holder: str, rows: Sequence[NewRow]) -> None:
    _hold(session, batch_id, holder)
    batches.add(session, batch_id, rows)


def start(session: Session, batch_id: str, holder: str, rows: int, now_ms: int) -> None:
    """So many have been added, and no more come."""
    _hold(session, batch_id, holder)
    there = session.scalar(select(func.count()).where(BatchRow.batch_id == batch_id))
    if there != rows:
        raise Conflict(f"{there} of {rows} rows are there: another has begun anew meanwhile")
    batches.started(session, batch_id, now_ms)


def _hold(session: Session, batch_id: str, holder: str) -> None:
    mine = (Batch.id == batch_id, Batch.holder == holder, Batch.state == BatchState.VALIDATING)
    if session.scalar(select(Batch.id).where(*mine).with_for_update()) is None:
        raise Conflict("it was cancelled, or another makes its rows")
