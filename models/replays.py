"""Which turns does a replay ask again, and how do they stand?  Verbs and queries over replays; they never commit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from models import transcripts
from models.handover import NewJob
from models.jobs import submit
from models.tables.jobs import Job
from models.tables.replays import Replay
from models.tables.transcripts import Turn
from models.wire.replays import Pair

TURNS_MOST = 1000


@dataclass(frozen=True, slots=True)
class Recorded:
    """A turn as it was asked; `messages` is its whole prompt."""

    job: Job
    conversation_id: str
    messages: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class NewReplay:
    id: str
    account_id: str
    source_job_id: str | None
    source_conversation_id: str | None
    target_model: str | None
    overrides: dict[str, Any]
    turns: int
    created_ms: int


def recorded(session: Session, account_id: str, *, job_id: str | None, conversation_id: str | None) -> list[Recorded]:
    """The turns to ask again, oldest first; replays of earlier replays are left out, unless one is named."""
    rows = select(Turn, Job).join(Job, Job.id == Turn.job_id).where(Job.account_id == account_id)
    if job_id is not None:
        rows = rows.where(Turn.job_id == job_id)
    else:
        rows = rows.where(Turn.conversation_id == conversation_id, Turn.replay.is_(False))
    found = [(row.Turn, row.Job) for row in session.execute(rows.order_by(Turn.job_id).limit(TURNS_MOST + 1))]
    tree = transcripts.tree_above(session, [turn.prompt for turn, _ in found])
    return [Recorded(job, turn.conversation_id, transcripts.path(tree, turn.prompt)) for turn, job in found]


def start(session: Session, replay: NewReplay, jobs: Sequence[NewJob]) -> None:
    session.execute(insert(Replay), [{name: getattr(replay, name) for name in NewReplay.__slots__}])
    submit(session, jobs)


def find(session: Session, account_id: str, replay_id: str) -> Replay | None:
    return session.scalar(select(Replay).where(Replay.id == replay_id, Replay.account_id == account_id))


def pairs(session: Session, replay_id: str) -> list[Pair]:
    # In the order of the recorded turns: those that ask again were made at once, so their own ids tell none.
    rows = select(Job).where(Job.batch_id == replay_id).order_by(Job.source_job_id, Job.id)
    again = session.scalars(rows).all()
    names = [job.source_job_id for job in again if job.source_job_id]
    sources = {job.id: job for job in session.scalars(select(Job).where(Job.id.in_(names)))}
    answers = transcripts.answers_of(session, [*names, *(job.id for job in again)])
    first = {job_id: choices[0][1] for job_id, choices in answers.items() if choices}
    return [
        Pair(sources[job.source_job_id], job, first.get(job.source_job_id), first.get(job.id))
        for job in again
        if job.source_job_id in sources
    ]
