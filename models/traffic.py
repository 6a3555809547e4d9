"""Which requests came in a span of time, and how were they answered?  What a load test sends again.

Read in keyset pages, oldest first.  Left out is what could not be sent again (its content was not stored, or is deleted) and what is no
traffic of the service's callers: rows of batches, replays and evals, and requests that an earlier load test has made.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from models import transcripts
from models.lifecycle import FINAL, JobState
from models.tables.jobs import Door, Job
from models.tables.transcripts import Turn

TAG = "tram-replay"
"""What a load test's own requests are counted under, so that the next one leaves them out."""
PAGE = 100


@dataclass(frozen=True, slots=True)
class Span:
    since_ms: int
    until_ms: int
    account_id: str | None = None
    """None: everybody's."""


@dataclass(frozen=True, slots=True)
class Recorded:
    id: str
    created_ms: int
    model: str
    parameters: dict[str, Any]
    messages: list[dict[str, Any]]
    state: JobState
    first_token_ms: int | None
    ended_ms: int | None

    @property
    def ttft_ms(self) -> int | None:
        return None if self.first_token_ms is None else self.first_token_ms - self.created_ms

    @property
    def latency_ms(self) -> int | None:
        return None if self.ended_ms is None else self.ended_ms - self.created_ms


def count(session: Session, span: Span) -> int:
    return (
        session.scalar(select(func.count()).select_from(Job).join(Turn, Turn.job_id == Job.id).where(*_within(span)))
        or 0
    )


def page(session: Session, span: Span, after: str = "", limit: int = PAGE) -> list[Recorded]:
    rows = select(Turn, Job).join(Job, Job.id == Turn.job_id).where(*_within(span), Job.id > after)
    found = [(row.Turn, row.Job) for row in session.execute(rows.order_by(Job.id).limit(limit))]
    tree = transcripts.tree_above(session, [turn.prompt for turn, _ in found])
    return [_recorded(job, transcripts.path(tree, turn.prompt)) for turn, job in found]


def _within(span: Span) -> Iterator[Any]:
    yield Job.created_ms >= span.since_ms
    yield Job.created_ms < span.until_ms
    yield Job.state.in_(FINAL)
    yield Job.door.in_((Door.CHAT, Door.JOB))
    yield Job.parameters.is_not(None)
    yield or_(Job.tag.is_(None), Job.tag != TAG)
    if span.account_id is not None:
        yield Job.account_id == span.account_id


def _recorded(job: Job, messages: list[dict[str, Any]]) -> Recorded:
    facts = (job.id, job.created_ms, job.model, job.parameters or {}, messages)
    return Recorded(*facts, job.state, job.first_token_ms, job.ended_ms)
