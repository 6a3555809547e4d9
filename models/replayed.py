"""How does a replay's turn stand beside the one it repeats?  Queries; nothing is written.

What a comparison needs of both sides while a replay runs, and what is shown of it later: the verdict as it was kept beside the row, and
both answers as far as they are still stored.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from models import environments, transcripts
from models.batches import Settled
from models.comparison import Mode
from models.replay import changes, system_of
from models.replays import Recorded, recorded
from models.tables.batches import Batch, BatchRow, RowState
from models.tables.jobs import Job
from models.verdicts import Judgement, Reason, Side, Terms, Verdict, Why

_AT_ONCE = 500
"""Rows read at a time."""
_OVER = (RowState.COMPLETED, RowState.FAILED)
_PENDING = {"verdict": Verdict.PENDING}


@dataclass(frozen=True, slots=True)
class Considered:
    """A row that has ended, beside what it repeats."""

    row: BatchRow
    source: Job
    job: Job
    recorded: Side
    replayed: Side
    terms: Terms


def considered(session: Session, batch: Batch, settled: Sequence[Settled]) -> list[Considered]:
    """Those whose source is still there."""
    found = recorded(session, [each.row.source_job_id for each in settled])
    jobs = [*(source.job for source in found.values()), *(each.job for each in settled)]
    answers = transcripts.answers_of(session, [job.id for job in jobs])
    facts = environments.facts_by_digest(session, {job.environment for job in jobs})
    systems = _systems(session, batch, found)

    def side(job: Job, *, same: bool = True) -> Side:
        said = [message for _, message in answers[job.id]]
        error = (job.error or {}).get("message")
        return Side(job.state, said, job.parameters or {}, facts.get(job.environment or ""), error, same)

    considered = []
    for row, job in ((each.row, each.job) for each in settled):
        if (source := found.get(row.source_job_id or "")) is not None:
            sides = side(source.job), side(job, same=(row.detail or {}).get("same_history", True))
            terms = _terms(batch, source.job, job, systems.get(source.job.id))
            considered.append(Considered(row, source.job, job, *sides, terms))
    return considered


def _terms(batch: Batch, source: Job, job: Job, system: Any) -> Terms:
    overrides, target = batch.spec["overrides"], batch.spec["target_model"]
    found = changes(
        overrides,
        source.parameters or {},
        job.parameters or {},
        None if target in {None, source.model, source.card} else (source.card, job.card),
        (system, overrides.get("system")),
    )
    return Terms(Mode(batch.spec["mode"]), found)


def _systems(session: Session, batch: Batch, found: Mapping[str, Recorded]) -> dict[str, Any]:
    """What the system said in the recorded prompts, where it is to be compared."""
    if "system" not in batch.spec["overrides"]:
        return {}
    tips = {name: source.turn.prompt for name, source in found.items()}
    tree = transcripts.tree_above(session, list(tips.values()))
    return {name: system_of(transcripts.path(tree, tip)) for name, tip in tips.items()}


def details_of(session: Session, batch: Batch) -> list[dict[str, Any]]:
    """What is remembered of each row that has ended."""
    return [judged(row) for row in _rows(session, batch, -1) if row.state in _OVER]


def _rows(session: Session, batch: Batch, after: int) -> Iterator[BatchRow]:
    """Those behind this number, in order, read by pages."""
    rows = select(BatchRow).where(BatchRow.batch_id == batch.id).order_by(BatchRow.number).limit(_AT_ONCE)
    while found := session.scalars(rows.where(BatchRow.number > after)).all():
        yield from found
        after = found[-1].number


def judged(row: BatchRow) -> dict[str, Any]:
    """What is remembered of a row; of one that has ended without a comparison, why there is none."""
    detail = row.detail or {}
    if row.state not in _OVER or "judgement" in detail:
        return detail
    told = (row.error or {}).get("message") or "the recorded turn is gone"
    nothing = Judgement(Verdict.NOT_COMPARABLE, comparable=False, reasons=[Reason(Why.NO_ANSWER, told)])
    return detail | {"judgement": nothing.told()}


@dataclass(frozen=True, slots=True)
class Shown:
    """A row as it is shown: with what both sides said, as far as it is still stored."""

    row: BatchRow
    detail: dict[str, Any]
    recorded: list[dict[str, Any]]
    replayed: list[dict[str, Any]]


def shown(session: Session, batch: Batch, after: int, limit: int, verdict: Verdict | None = None) -> list[Shown]:
    """The rows behind the one of this number, in order."""
    fitting = (
        row
        for row in _rows(session, batch, after)
        if verdict in {None, judged(row).get("judgement", _PENDING)["verdict"]}
    )
    found = list(islice(fitting, limit))
    names = [name for row in found for name in (row.source_job_id, row.job_id) if name]
    said = {name: [message for _, message in each] for name, each in transcripts.answers_of(session, names).items()}
    return [
        Shown(row, judged(row), said.get(row.source_job_id or "", []), said.get(row.job_id or "", [])) for row in found
    ]
