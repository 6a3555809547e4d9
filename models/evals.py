"""Which evals are there, what have their runs come to, and which model has won?  Verbs and queries; they never commit.

A run is the batch of its id: the batch says how far the jobs are, the run what the answers were worth.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, func, or_, select, tuple_, update
from sqlalchemy.orm import Session

from models.datasets import Item
from models.errors import Conflict, NotFound
from models.handover import Doomed
from models.insertion import insert_once
from models.listings import Window
from models.tables.batches import Batch, BatchRow, BatchState
from models.tables.evals import Eval, EvalItem, EvalRun, Metric
from models.tables.jobs import Job
from models.tables.webhooks import Delivery, DeliveryState

ALIAS = "eval:"
"""Before an eval's id it is a model name: that of its winner."""
_ROWS = 500  # rows a statement


@dataclass(frozen=True, slots=True)
class NewEval:
    id: str
    account_id: str
    name: str
    source: dict[str, Any]
    criteria: list[dict[str, Any]]
    metric: Metric | None
    meta: dict[str, str]
    created_ms: int


@dataclass(frozen=True, slots=True)
class NewRun:
    id: str
    eval_id: str
    account_id: str
    name: str
    model: str | None
    source: dict[str, Any]
    criteria: list[dict[str, Any]]
    """A tally for each criterion, all noughts."""
    created_ms: int


@dataclass(frozen=True, slots=True)
class Run:
    """A run and the batch that it is."""

    row: EvalRun
    batch: Batch


@dataclass(frozen=True, slots=True)
class ModelUsage:
    model: str
    invocations: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


def create(session: Session, new: NewEval) -> None:
    row = {name: getattr(new, name) for name in NewEval.__slots__}
    insert_once(session, Eval, [row | {"updated_ms": new.created_ms}])


def start(session: Session, new: NewRun, items: Sequence[Item]) -> None:
    """The run's own part; its batch is made first, in the same transaction.  Raises NotFound: the eval was deleted meanwhile."""
    touched = update(Eval).where(Eval.id == new.eval_id).values(updated_ms=new.created_ms)
    if session.scalar(touched.returning(Eval.id)) is None:
        raise NotFound(f"there is no eval {new.eval_id!r}", param="eval_id")
    row = {name: getattr(new, name) for name in NewRun.__slots__}
    insert_once(session, EvalRun, [row | {"total": len(items)}])
    for first in range(0, len(items), _ROWS):
        part = enumerate(items[first : first + _ROWS], first)
        rows = [{"run_id": new.id, "number": n, "item": each.item, "given": each.given} for n, each in part]
        insert_once(session, EvalItem, rows)


def find(session: Session, account_id: str, eval_id: str) -> Eval | None:
    return session.scalar(select(Eval).where(Eval.id == eval_id, Eval.account_id == account_id))


def change(session: Session, account_id: str, eval_id: str, now_ms: int, **columns: Any) -> Eval | None:
    mine = (Eval.id == eval_id, Eval.account_id == account_id)
    session.execute(update(Eval).where(*mine).values(updated_ms=now_ms, **columns))
    return session.scalar(select(Eval).where(*mine).execution_options(populate_existing=True))


def listed(session: Session, account_id: str, window: Window, *, by_update: bool) -> tuple[Sequence[Eval], bool]:
    """In the order of their ids, which is that of their making, or of their last change."""
    key = tuple_(Eval.updated_ms, Eval.id) if by_update else tuple_(Eval.id)
    rows = select(Eval).where(Eval.account_id == account_id)
    if window.after is not None:
        last = select(*([Eval.updated_ms, Eval.id] if by_update else [Eval.id])).where(Eval.id == window.after)
        at = session.execute(last).one_or_none() or ((0, window.after) if by_update else (window.after,))
        rows = rows.where(key > tuple(at) if window.ascending else key < tuple(at))
    order = [Eval.updated_ms, Eval.id] if by_update else [Eval.id]
    rows = rows.order_by(*(order if window.ascending else [each.desc() for each in order])).limit(window.limit + 1)
    found = session.scalars(rows).all()
    return found[: window.limit], len(found) > window.limit


def find_run(session: Session, account_id: str, eval_id: str, run_id: str) -> Run | None:
    mine = (EvalRun.id == run_id, EvalRun.eval_id == eval_id, EvalRun.account_id == account_id)
    row = session.execute(_runs().where(*mine)).one_or_none()
    return None if row is None else Run(*row)


def runs_page(session: Session, eval_id: str, window: Window, *where: ColumnElement[bool]) -> tuple[list[Run], bool]:
    rows = _runs().where(EvalRun.eval_id == eval_id, *where)
    if window.after is not None:
        rows = rows.where(EvalRun.id > window.after if window.ascending else EvalRun.id < window.after)
    rows = rows.order_by(EvalRun.id if window.ascending else EvalRun.id.desc()).limit(window.limit + 1)
    found = [Run(*row) for row in session.execute(rows)]
    return found[: window.limit], len(found) > window.limit


def runs_of(session: Session, eval_ids: Sequence[str]) -> dict[str, list[Run]]:
    """Oldest first."""
    found: dict[str, list[Run]] = {eval_id: [] for eval_id in eval_ids}
    for row in session.execute(_runs().where(EvalRun.eval_id.in_(eval_ids)).order_by(EvalRun.id)):
        found[row[0].eval_id].append(Run(*row))
    return found


def with_status(status: str) -> ColumnElement[bool]:
    """Runs of which OpenAI would use this word."""
    begun = or_(Batch.completed + Batch.failed > 0, EvalRun.passed + EvalRun.failed + EvalRun.errored > 0)
    open_ = Batch.ended_ms.is_(None)
    words: dict[str, ColumnElement[bool]] = {
        "queued": and_(open_, ~begun),
        "in_progress": and_(open_, begun),
        "completed": Batch.state == BatchState.COMPLETED,
        "canceled": Batch.state == BatchState.CANCELLED,
        "failed": Batch.state.in_((BatchState.FAILED, BatchState.EXPIRED)),
    }
    return words[status]


def usage_of(session: Session, run_ids: Sequence[str]) -> dict[str, list[ModelUsage]]:
    """What each model has done in each run, judges too."""
    sums = [func.sum(column) for column in (Job.prompt_tokens, Job.cached_tokens, Job.completion_tokens)]
    rows = select(Job.batch_id, Job.model, func.count(), *sums).where(Job.batch_id.in_(run_ids))
    found: dict[str, list[ModelUsage]] = {run_id: [] for run_id in run_ids}
    for run_id, model, *numbers in session.execute(rows.group_by(Job.batch_id, Job.model).order_by(Job.model)):
        found[run_id or ""].append(ModelUsage(model, *map(int, numbers)))
    return found


def content_of(session: Session, run_id: str) -> list[dict[str, Any]]:
    """The rows of an inline data source, as they were sent."""
    rows = select(EvalItem.item, EvalItem.given).where(EvalItem.run_id == run_id).order_by(EvalItem.number)
    return [
        {"item": item} if given is None else {"item": item, "sample": given} for item, given in session.execute(rows)
    ]


def winner(session: Session, account_id: str, eval_id: str) -> str:
    """The model that `eval:<id>` stands for.  Raises NotFound, and Conflict while nothing has won."""
    row = find(session, account_id, eval_id)
    if row is None:
        raise NotFound(f"there is no eval {eval_id!r}", param="model", code="model_not_found")
    runs = runs_of(session, [eval_id])[eval_id]
    if row.metric is not None and any(run.batch.ended_ms is None for run in runs):
        raise Conflict(f"the eval {eval_id!r} is still running: nothing has won", param="model", code="no_winner")
    best = best_of(runs, row.metric or Metric.QUALITY)
    if best is None or best.row.model is None:
        raise Conflict(f"no run of the eval {eval_id!r} has a model that won", param="model", code="no_winner")
    return best.row.model


def best_of(runs: Sequence[Run], metric: Metric) -> Run | None:
    """Of the completed runs whose model has answered; the earliest of those that are alike."""
    able = [run for run in runs if run.batch.state is BatchState.COMPLETED and run.row.model and run.row.sampled]
    return min(able, key=lambda run: _rank(run.row, metric), default=None)


def jobs_left(session: Session, run_ids: Sequence[str], limit: int) -> list[Doomed]:
    """Jobs of these runs that still hold what was said, some at a time."""
    rows = select(Job.id, Job.attempt).where(Job.batch_id.in_(run_ids), Job.deleted_ms.is_(None))
    return [Doomed(*row) for row in session.execute(rows.limit(limit))]


def require_ended(session: Session, run_ids: Sequence[str]) -> None:
    """Raises Conflict."""
    if session.scalar(select(exists().where(Batch.id.in_(run_ids), Batch.ended_ms.is_(None)))):
        raise Conflict("it is still running; cancel it first", code="still_running")


def delete_runs(session: Session, run_ids: Sequence[str], now_ms: int) -> None:
    """What was still to be told of them is told no more.  Raises Conflict."""
    require_ended(session, run_ids)
    pending = (Delivery.batch_id.in_(run_ids), Delivery.state == DeliveryState.PENDING)
    session.execute(update(Delivery).where(*pending).values(state=DeliveryState.FAILED, due_ms=None, ended_ms=now_ms))
    for table, column in ((EvalItem, EvalItem.run_id), (EvalRun, EvalRun.id), (BatchRow, BatchRow.batch_id)):
        session.execute(delete(table).where(column.in_(run_ids)))
    session.execute(delete(Batch).where(Batch.id.in_(run_ids)))


def delete_eval(session: Session, eval_id: str) -> None:
    """One without runs.  Raises Conflict."""
    session.execute(select(Eval.id).where(Eval.id == eval_id).with_for_update())  # no run is begun from here on
    if session.scalar(select(exists().where(EvalRun.eval_id == eval_id))):
        raise Conflict("a run of it was begun meanwhile", code="still_running")
    session.execute(delete(Eval).where(Eval.id == eval_id))


def _runs() -> Any:
    return select(EvalRun, Batch).join(Batch, Batch.id == EvalRun.id)


def _rank(row: EvalRun, metric: Metric) -> tuple[float, ...]:
    """Least is best."""
    quality, cost, latency = -row.passed / row.total, row.cost_micros / row.sampled, row.latency_ms / row.sampled
    score = -sum(each["score"] for each in row.criteria) / row.total
    orders = {
        Metric.QUALITY: (quality, score, cost, latency),
        Metric.COST: (cost, quality, score, latency),
        Metric.SPEED: (latency, quality, score, cost),
    }
    return orders[metric]
