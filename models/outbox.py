"""Which queued jobs may the broker have lost?  A row is its own outbox: its message is sent again until a worker has the job.

Doubt is a due time on the row.  `workers.upkeep` asks the broker about doubtful jobs, publishes again what is missing, and doubts
those it found less often from then on.  A message too many finds nothing to claim.
"""

from collections import Counter
from collections.abc import Sequence

from sqlalchemy import case, func, literal, select, update
from sqlalchemy.orm import Session

from models.handover import Moved
from models.jobs import PUBLISH_DOUBT_MS
from models.lifecycle import JobState
from models.tables.base import Milliseconds
from models.tables.jobs import Job

DOUBT_MOST_MS = 30_000
"""A message that a dying worker took along is missed for this long at most."""
_BATCH = 1000  # ids a statement; Postgres takes 65,535 at most


def doubtful(session: Session, now_ms: int, *, everything: bool = False, limit: int = 1000) -> list[Moved]:
    """Queued jobs, oldest first, whose message the broker may have lost; or all of them, when it is known to have lost all."""
    rows = select(Job.id, Job.attempt, Job.queue, Job.state).where(Job.state == JobState.QUEUED)
    if not everything:
        rows = rows.where(Job.publish_due_ms <= now_ms).limit(limit)
    return [Moved(*row) for row in session.execute(rows.order_by(Job.publish_due_ms))]


def waiting(session: Session) -> Counter[str]:
    """How many jobs wait, by queue."""
    rows = select(Job.queue, func.count().label("jobs")).where(Job.state == JobState.QUEUED).group_by(Job.queue)
    return Counter({row.queue: row.jobs for row in session.execute(rows)})


def queue_of(session: Session, job_id: str) -> str | None:
    """Where a job's message goes; None when nobody waits for it any more."""
    return session.scalar(select(Job.queue).where(Job.id == job_id, Job.state == JobState.QUEUED))


def reassured(session: Session, ids: Sequence[str], now_ms: int) -> None:
    """The broker holds these messages (again): doubt them anew later, the old ones less often."""
    now = literal(now_ms, Milliseconds)  # else Postgres takes it for an INTEGER, and it is none
    half = (now - Job.created_ms) // 2
    again = case((half < PUBLISH_DOUBT_MS, PUBLISH_DOUBT_MS), (half > DOUBT_MOST_MS, DOUBT_MOST_MS), else_=half)
    for start in range(0, len(ids), _BATCH):
        step = update(Job).where(Job.id.in_(ids[start : start + _BATCH]), Job.state == JobState.QUEUED)
        session.execute(step.values(publish_due_ms=now + again))
