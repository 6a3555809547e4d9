"""How does an eval's run become grades?  Answers as rows of its batch, then what judges are asked about them, then the grades.

What `workers.batch` leaves to a kind of batch.  Grading costs time, so it is done outside transactions and beside the loop, in threads of
its own, a second at a time and one account beside the other; what is written is a compare-and-set an item, so whoever dies, the next
round grades what is left.  A run in which no item could be graded has failed.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, ParamSpec, TypeVar
from weakref import WeakValueDictionary

import orjson
from sqlalchemy.orm import Session

from infra.clock import now_ms
from infra.results import result_by_id
from models import batch_rows, batches, datasets, eval_items, eval_results
from models.batches import NewRow, Settled
from models.errors import TramError
from models.eval_items import Answered, Due, Graded
from models.grading import Grader, grader_of
from models.grading.effort import ITEM_S, Effort
from models.grading.template import length_of
from models.lifecycle import JobState
from models.tables.batches import Batch, BatchRow, BatchState
from models.tables.evals import Eval, EvalItem, EvalRun
from models.tables.jobs import Door, Job
from workers.batch import Effect, Feeder

log = logging.getLogger(__name__)

_SLICE = 200
"""Items that are read to be made rows."""
_WRITE_CHARACTERS = 2_000_000
"""After so many, or one item's, what was made is written: SQLite holds everybody up meanwhile."""
_ITEM_CHARACTERS = 8_000_000
"""Of an item's own question and all that judges are asked about it."""
_AT_A_TIME_S = 1.0
"""After so long what was graded is written, and a cancelled run noticed."""
_THREADS = ThreadPoolExecutor(4, "grade")
"""Not the loop's own, which others wait for."""
_EVENTS = {BatchState.COMPLETED: "eval.run.succeeded", BatchState.CANCELLED: "eval.run.canceled"}
_FAILED = "eval.run.failed"
_P = ParamSpec("_P")
_S = TypeVar("_S")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Run:
    row: EvalRun
    graders: Sequence[Grader]

    def body(self, item: EvalItem) -> dict[str, Any]:
        return datasets.chat(self.row.source, item.item)

    def first_rows(self, item: EvalItem) -> list[NewRow]:
        return self.questions(Due(item, None), {}) if self.row.model is None else [self._row(item)]

    def questions(self, due: Due, completions: eval_results.Completions) -> list[NewRow]:
        try:
            with self._effort():
                found = eval_results.questions_about(self.row, self.graders, due, completions)
        except Exception:  # nobody is asked, and `grade` comes to the same end: the item's, not the run's
            log.exception("nothing can be asked about item %s of %s", due.item.number, self.row.id)
            found = {}
        return eval_items.judges_rows(self.row, due.item.number, found)

    def grade(self, due: Due, completions: eval_results.Completions) -> Graded:
        try:
            with self._effort():
                return eval_results.graded(self.row, self.graders, due, completions)
        except Exception as error:
            log.exception("item %s of %s could not be graded", due.item.number, self.row.id)
            return eval_results.broken(due, self.graders, f"the grader broke: {type(error).__name__}")

    def _effort(self) -> Effort:
        """The same for asking and for grading: what could not be asked is not to be had, either."""
        return Effort(ITEM_S, min(_ITEM_CHARACTERS, datasets.RUN_CHARACTERS // self.row.total))

    def _row(self, item: EvalItem) -> NewRow:
        try:
            return NewRow(item.number, self.body(item))
        except TramError as error:
            return NewRow(item.number, None, error=error.as_json())


class Evals:
    door = Door.EVAL

    def __init__(self) -> None:
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """By account: whatever the graders of one are like, the others' go on."""

    async def prepare(self, feeder: Feeder, batch: Batch) -> None:
        """The questions to the model; where answers came with the items, those to the judges."""
        run = await self._run_of(feeder, batch)
        add, first, added = partial(batch_rows.add, batch_id=batch.id, holder=feeder.name), 0, 0
        await feeder.database.write(partial(batch_rows.clear, batch_id=batch.id, holder=feeder.name))
        while items := await feeder.database.read(partial(eval_items.some, run_id=batch.id, first=first, limit=_SLICE)):
            made = await self._beside(batch.account_id, _some, run.first_rows, items, _length)
            rows = [row for rows in made for row in rows]
            await feeder.database.write(partial(add, rows=rows))
            first, added = first + len(made), added + len(rows)
        start = partial(batch_rows.start, batch_id=batch.id, holder=feeder.name, now_ms=now_ms())
        await feeder.database.write(partial(start, rows=added))

    async def requests(self, feeder: Feeder, batch: Batch, rows: Sequence[BatchRow]) -> Mapping[int, dict[str, Any]]:  # noqa: ARG002 -- others look further
        """As they were made."""
        return {row.number: row.body for row in rows if row.body is not None}

    async def consider(self, feeder: Feeder, batch: Batch, settled: Sequence[Settled]) -> Mapping[int, Effect | None]:
        """Judges are asked about the answers among these; what ended in earlier rounds is graded, to be seen while the run goes on."""
        if batch.state is BatchState.CANCELLING:
            return {}
        run = await self._run_of(feeder, batch)
        await self._grade_due(feeder, run)
        answers = [each for each in settled if run.row.model is not None and each.row.number < run.row.total]
        items = await feeder.database.read(
            partial(eval_items.these, run_id=batch.id, numbers=[each.row.number for each in answers])
        )
        due = [Due(items[each.row.number], Answered(each.row, each.job)) for each in answers]
        completions = await _completions(feeder, (each.job for each in answers))
        ask = partial(run.questions, completions=completions)
        asked = await self._beside(batch.account_id, _some, ask, due, _length)
        effects = {each.item.number: Effect(rows=rows) for each, rows in zip(due, asked, strict=False) if rows}
        return {**effects, **{each.item.number: None for each in due[len(asked) :]}}

    async def conclude(self, feeder: Feeder, batch: Batch, state: BatchState) -> dict[str, Any] | None:
        """What is left is graded, unless the run was cancelled."""
        if state is BatchState.CANCELLED:
            return None
        await self._grade_due(feeder, await self._run_of(feeder, batch))
        row, _ = await feeder.database.read(partial(_found, run_id=batch.id))
        if row.errored == row.total:
            await feeder.database.write(partial(_failed, batch=batch, run=row))
        return None

    def event(self, state: BatchState) -> str:
        return _EVENTS.get(state, _FAILED)

    async def _run_of(self, feeder: Feeder, batch: Batch) -> _Run:
        row, criteria = await feeder.database.read(partial(_found, run_id=batch.id))
        return _Run(row, await self._beside(batch.account_id, _graders, orjson.dumps(criteria)))

    async def _grade_due(self, feeder: Feeder, run: _Run) -> None:
        while due := await feeder.database.read(partial(eval_items.due, run=run.row)):
            rows = [each for one in due for each in (one.answer, *one.judged) if each is not None]
            completions = await _completions(feeder, (each.job for each in rows))
            while due:
                grade = partial(run.grade, completions=completions)
                grades = await self._beside(run.row.account_id, _some, grade, due, _shown_length)
                verb = partial(eval_items.grade, run_id=run.row.id, graded=grades, now_ms=now_ms())
                await feeder.database.write(verb)
                due = due[len(grades) :]
                if await feeder.database.read(partial(_cancelled, batch_id=run.row.id)):
                    return

    async def _beside(self, account_id: str, step: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        turn = self._turns.setdefault(account_id, asyncio.Lock())
        async with turn:
            return await asyncio.get_running_loop().run_in_executor(_THREADS, partial(step, *args, **kwargs))


def _found(session: Session, run_id: str) -> tuple[EvalRun, list[dict[str, Any]]]:
    row = session.get_one(EvalRun, run_id)
    return row, session.get_one(Eval, row.eval_id).criteria


@lru_cache(maxsize=8)
def _graders(criteria: bytes) -> Sequence[Grader]:
    """Kept, since checking a schema takes milliseconds and an eval may have a thousand."""
    return tuple(grader_of(each) for each in orjson.loads(criteria))


def _cancelled(session: Session, batch_id: str) -> bool:
    return session.get_one(Batch, batch_id).state is BatchState.CANCELLING


async def _completions(feeder: Feeder, jobs: Iterable[Job | None]) -> dict[str, dict[str, Any]]:
    """What was said, by job; without those whose answer is gone."""
    found = {}
    for job in jobs:
        if job is None or job.state is not JobState.COMPLETED:
            continue
        if (result := await result_by_id(feeder.database, feeder.objects, job.id)) is not None:
            found[job.id] = result["completion"]
    return found


def _some(step: Callable[[_S], _T], things: Sequence[_S], length: Callable[[_T], int]) -> list[_T]:
    """Of the first ones, one at least: what a second brings, and one write should hold."""
    found: list[_T] = []
    held, until = 0, time.monotonic() + _AT_A_TIME_S
    for each in things:
        found.append(step(each))
        held += length(found[-1])
        if held > _WRITE_CHARACTERS or time.monotonic() > until:
            break
    return found


def _length(rows: Sequence[NewRow]) -> int:
    return sum(length_of(row.body["messages"]) for row in rows if row.body is not None)


def _shown_length(graded: Graded) -> int:
    return length_of(graded.sample["input"]) + length_of(graded.sample["output"])


def _failed(session: Session, batch: Batch, run: EvalRun) -> None:
    first = eval_items.graded_of(session, run.id, limit=1)
    errors = (each["error"] for item in first for each in item.results or () if each["error"])
    why = {"code": "no_item_graded", "message": f"no item could be graded: {next(errors, 'none was left')}"}
    batches.end(session, batch, BatchState.FAILED, _FAILED, now_ms(), errors=[why])
