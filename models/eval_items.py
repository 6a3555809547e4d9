"""Which items of a run are to be graded next, and what did they come to?  Verbs and queries; they never commit.

A row's number tells its item: in a run of n items the rows of answers have the items' numbers, and what judges are asked about item i
are the rows i + n, i + 2n and so on, made in the transaction that settles its answer.  So an item is due when none of its rows waits
or runs.  An item is graded under its run's lock, if nobody has: it is counted once, whoever dies.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Select, func, select, update
from sqlalchemy.orm import Session

from models.batches import NewRow
from models.listings import Window
from models.tables.batches import BatchRow, RowState
from models.tables.evals import EvalItem, EvalRun, Outcome
from models.tables.jobs import NO_RESULT, Job

DUE_MOST = 100
"""Items a round: as many as graders look at in about a second."""
PAGE_BYTES = 8 << 20
"""A page of ordinary items has a tenth of that; the item that reaches it, which may be as large by itself, is the last."""
_FEW = 10
"""Items read at a time: one may have eight million characters."""
_NAME = "outputitem_"
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Answered:
    """A row of an item that has ended: its answer, or a judge's."""

    row: BatchRow
    job: Job | None


@dataclass(frozen=True, slots=True)
class Due:
    item: EvalItem
    answer: Answered | None
    """None: it came with the item."""
    judged: Sequence[Answered] = ()


@dataclass(frozen=True, slots=True)
class Graded:
    number: int
    outcome: Outcome
    results: Sequence[Mapping[str, Any]]
    """One for each criterion, in their order; `error` where it could not judge."""
    sample: Mapping[str, Any]
    job_id: str | None = None
    latency_ms: int | None = None
    """None: no model has answered."""
    cost_micros: int | None = None

    @property
    def score(self) -> float | None:
        """Mean of what could be graded."""
        scores = [float(each["score"]) for each in self.results if not each["error"]]
        return sum(scores) / len(scores) if scores else None


def due(session: Session, run: EvalRun, limit: int = DUE_MOST) -> list[Due]:
    """In the order of the data."""
    rows = select(BatchRow.number).where(BatchRow.batch_id == run.id)
    open_rows = rows.where(BatchRow.state.in_((RowState.WAITING, RowState.RUNNING)))
    busy = {number % run.total for number in session.scalars(open_rows)}
    left = select(EvalItem.number).where(EvalItem.run_id == run.id, EvalItem.outcome.is_(None))
    free = [number for number in session.scalars(left.order_by(EvalItem.number)) if number not in busy][:limit]
    last: int = session.scalar(rows.with_only_columns(func.max(BatchRow.number))) or 0
    found = _answered(session, run.id, [each for number in free for each in range(number, last + 1, run.total)])
    items = session.scalars(_items(run.id).where(EvalItem.number.in_(free)).order_by(EvalItem.number)).all()
    return [_due(run, item, found, last) for item in items]


def these(session: Session, run_id: str, numbers: Sequence[int]) -> dict[int, EvalItem]:
    return {each.number: each for each in session.scalars(_items(run_id).where(EvalItem.number.in_(numbers)))}


def some(session: Session, run_id: str, first: int, limit: int) -> Sequence[EvalItem]:
    """Items from this number on."""
    return session.scalars(_items(run_id).where(EvalItem.number >= first).order_by(EvalItem.number).limit(limit)).all()


def judges_rows(run: EvalRun, number: int, questions: Mapping[str, dict[str, Any]]) -> list[NewRow]:
    """What is asked about an item, by the questions' keys; the same a second time."""
    return [
        NewRow(number=number + run.total * slot, body=body, name=f"{number}/{key}", detail={"key": key})
        for slot, (key, body) in enumerate(questions.items(), 1)
    ]


def grade(session: Session, run_id: str, graded: Sequence[Graded], now_ms: int) -> int:
    """Writes the grades down and adds them up; how many were new."""
    run = session.scalars(select(EvalRun).where(EvalRun.id == run_id).with_for_update()).one()
    new = _open_ones(session, run_id, graded)
    if new:
        session.execute(update(EvalItem), [_columns(run_id, each, now_ms) for each in new])
    tally = [dict(each) for each in run.criteria]
    for each in new:
        for total, result in zip(tally, each.results, strict=True):
            total["score"] += result["score"]
            total["errored" if result["error"] else "passed" if result["passed"] else "failed"] += 1
    outcomes = [each.outcome for each in new]
    answered = [each for each in new if each.latency_ms is not None]
    run.criteria = tally
    run.passed += outcomes.count(Outcome.PASS)
    run.failed += outcomes.count(Outcome.FAIL)
    run.errored += outcomes.count(Outcome.ERROR)
    run.sampled += len(answered)
    run.latency_ms += sum(each.latency_ms or 0 for each in answered)
    run.cost_micros += sum(each.cost_micros or 0 for each in new)
    session.flush()
    return len(new)


def page(
    session: Session, run_id: str, window: Window, outcome: Outcome | None = None
) -> tuple[Sequence[EvalItem], bool]:
    """Graded items, in the order of the data; and whether there are more, as also where those of a page would be too large."""
    rows = _graded(run_id) if outcome is None else _items(run_id).where(EvalItem.outcome == outcome)
    if window.after is not None:
        last = number_of(run_id, window.after)
        last = -1 if last is None else last
        rows = rows.where(EvalItem.number > last if window.ascending else EvalItem.number < last)
    rows = rows.order_by(EvalItem.number if window.ascending else EvalItem.number.desc()).limit(window.limit + 1)
    found: list[EvalItem] = []
    held_bytes = 0
    with session.scalars(rows, execution_options={"yield_per": _FEW}) as coming:
        for item in coming:
            if len(found) == window.limit or held_bytes >= PAGE_BYTES:
                return found, True
            found.append(item)
            held_bytes += len(orjson.dumps((item.item, item.sample, item.results)))
    return found, False


def find(session: Session, run_id: str, name: str) -> EvalItem | None:
    number = number_of(run_id, name)
    return None if number is None else session.scalar(_graded(run_id).where(EvalItem.number == number))


def graded_of(session: Session, run_id: str, limit: int | None = None) -> Sequence[EvalItem]:
    """All of them, or the first ones."""
    return session.scalars(_graded(run_id).order_by(EvalItem.number).limit(limit)).all()


def graded_each(session: Session, run_id: str) -> Iterator[EvalItem]:
    """All of them, of which few are in memory at once."""
    rows, after = _graded(run_id).order_by(EvalItem.number).limit(_FEW), -1
    while found := session.scalars(rows.where(EvalItem.number > after)).all():
        yield from found
        after = found[-1].number


def name_of(item: EvalItem) -> str:
    """An output item's id: its run's, and its place there."""
    return f"{_prefix(item.run_id)}{item.number:0{_DIGITS}}"


def number_of(run_id: str, name: str) -> int | None:
    """None for what is no item's name in this run."""
    number = name.removeprefix(_prefix(run_id))
    well = len(number) == _DIGITS and number.isascii() and number.isdigit()
    return int(number) if well and name.startswith(_prefix(run_id)) else None


def _prefix(run_id: str) -> str:
    return f"{_NAME}{run_id.partition('_')[2]}_"


def _items(run_id: str) -> Select[EvalItem]:
    return select(EvalItem).where(EvalItem.run_id == run_id)


def _graded(run_id: str) -> Select[EvalItem]:
    return _items(run_id).where(EvalItem.outcome.is_not(None))


def _due(run: EvalRun, item: EvalItem, found: Mapping[int, Answered], last: int) -> Due:
    judges = range(item.number + run.total, last + 1, run.total)
    answer = None if run.model is None else found.get(item.number)
    return Due(item, answer, [found[number] for number in judges if number in found])


def _answered(session: Session, run_id: str, numbers: Sequence[int]) -> dict[int, Answered]:
    rows = select(BatchRow, Job).outerjoin(Job, Job.id == BatchRow.job_id).options(NO_RESULT)
    rows = rows.where(BatchRow.batch_id == run_id, BatchRow.number.in_(numbers))
    return {row.number: Answered(row, job) for row, job in session.execute(rows)}


def _open_ones(session: Session, run_id: str, graded: Sequence[Graded]) -> list[Graded]:
    """Those that nobody has graded yet; whoever holds the run's row is alone."""
    left = select(EvalItem.number).where(EvalItem.run_id == run_id, EvalItem.outcome.is_(None))
    numbers = set(session.scalars(left.where(EvalItem.number.in_([each.number for each in graded]))))
    return [each for each in graded if each.number in numbers]


def _columns(run_id: str, each: Graded, now_ms: int) -> dict[str, Any]:
    facts = {name: getattr(each, name) for name in Graded.__slots__}
    return facts | {"run_id": run_id, "graded_ms": now_ms, "score": each.score}
