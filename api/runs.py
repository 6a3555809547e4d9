"""How does a request become a run of an eval?  Its questions are gathered and held against everything that would refuse them later.

What is accepted here is a batch and its items, in one transaction; upkeep (`workers.grade`) makes jobs of them.  Files are read whole,
since all their lines are checked first: so they are limited.  Checking costs time, so it is done in threads of its own.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from typing import Any, ParamSpec, TypeVar

from sqlalchemy.orm import Session

from api.deps import State
from infra.clock import now_ms
from infra.outbound import check_url
from models import datasets, eval_reports, evals, files, ids, logged
from models.accounts import Caller
from models.batches import NewBatch, begin
from models.cards.card import Card
from models.datasets import Item
from models.errors import InvalidRequest, ModelNotAllowed, NotFound, TooLarge
from models.eval_results import blank_tallies, judges_of
from models.evals import NewRun
from models.grading import grader_of
from models.grading.effort import CHECK_S, Effort
from models.grading.judges import draft
from models.grading.schemas import schema_of
from models.requests import check_abilities
from models.tables.batches import BatchKind
from models.tables.evals import Eval
from models.wire.chat import ChatRequest
from models.wire.criteria import check_fields
from models.wire.evals import CompletionsSource, CustomConfig, EvalRequest, FileContent, FileId, RunRequest
from models.wire.problems import validated

FILE_MOST_BYTES = 32 << 20
"""Of a file that a run reads: its lines are all held in memory once."""
RUNS_MOST = 10
"""Beside one another."""
_THREADS = ThreadPoolExecutor(2, "evals")
"""Not the loop's own, in which every chat's prompt is counted."""
_REPORTS = ThreadPoolExecutor(2, "reports")
"""Apart: what a request has checked is not to wait for them."""
REPORT_S = 30.0
"""Of computing: fifty graders in ten slices of ten runs would take an hour."""
_MODEL = "data_source.model"

_P = ParamSpec("_P")
_T = TypeVar("_T")


async def beside(step: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Beside the loop."""
    return await _in(_THREADS, step, *args, **kwargs)


async def _in(threads: ThreadPoolExecutor, step: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    return await asyncio.get_running_loop().run_in_executor(threads, partial(step, *args, **kwargs))


async def check_eval(state: State, caller: Caller, wanted: EvalRequest) -> None:
    """Whether its runs could be graded.  Raises InvalidRequest, TooLarge; NotFound, ModelNotAllowed for a judge."""
    names, effort = [str(spec.get("name")) for spec in wanted.testing_criteria], Effort(CHECK_S)
    for place, spec in enumerate(wanted.testing_criteria):
        await _check_criterion(state, caller, spec, f"testing_criteria[{place}]", effort)
        if names[place] in names[:place]:
            raise InvalidRequest(
                f"testing_criteria[{place}].name: another criterion has this name",
                param=f"testing_criteria[{place}].name",
            )
    if isinstance(wanted.data_source_config, CustomConfig):
        await beside(effort.spend, schema_of, wanted.data_source_config.item_schema, "data_source_config.item_schema")


async def questions(state: State, caller: Caller, row: Eval, wanted: RunRequest) -> list[Item]:
    """What the run asks or grades.  Raises InvalidRequest, NotFound, ModelNotAllowed, TooLarge."""
    source = wanted.data_source
    if wanted.webhook_url is not None:
        check_url(wanted.webhook_url, state.settings.webhook_networks)
    schema = row.source.get("item_schema")
    items = await beside(datasets.checked, await _items(state, caller, row, source.source), schema)
    if isinstance(source, CompletionsSource) and source.model is not None:
        card = await _candidate(state, caller, source.model)
        await beside(datasets.check_chats, source, items, partial(check_abilities, card))
    return items


def new_run(caller: Caller, row: Eval, wanted: RunRequest) -> tuple[NewBatch, NewRun]:
    source = wanted.data_source.model_dump(exclude_none=True)
    if source["source"]["type"] == "file_content":
        del source["source"]["content"]  # its items hold that
    now, run_id, model = now_ms(), ids.new("evalrun"), source.get("model")
    batch = NewBatch(
        id=run_id,
        account_id=caller.account_id,
        kind=BatchKind.EVAL,
        spec={"eval_id": row.id},
        created_ms=now,
        tag=caller.tag,
        meta=wanted.metadata or {},
        webhook_url=wanted.webhook_url,
    )
    run = NewRun(
        id=run_id,
        eval_id=row.id,
        account_id=caller.account_id,
        name=wanted.name or model or run_id,
        model=model,
        source=source,
        criteria=blank_tallies(row.criteria),
        created_ms=now,
    )
    return batch, run


def start(session: Session, batch: NewBatch, run: NewRun, items: Sequence[Item]) -> None:
    """In the caller's transaction."""
    begin(session, batch)
    evals.start(session, run, items)


async def report(
    state: State, caller: Caller, row: Eval, run_ids: Sequence[str], slices: Sequence[str] = ()
) -> dict[str, Any]:
    """The figures of runs beside one another.  Raises NotFound for a run that is none of this eval's."""
    if len(set(run_ids)) < len(run_ids) or len(run_ids) > RUNS_MOST:
        raise InvalidRequest(f"runs: up to {RUNS_MOST} different ones are compared", param="runs")
    found = []
    for run_id in run_ids:
        query = partial(evals.find_run, account_id=caller.account_id, eval_id=row.id, run_id=run_id)
        run = await state.database.read(query)
        if run is None:
            raise NotFound(f"there is no run {run_id!r} of this eval", param="runs")
        found.append(await state.database.read(partial(eval_reports.answered, run=run)))
    made = partial(eval_reports.report, row.name, found, created_at=now_ms() // 1000, slices=slices)
    try:
        return await _in(_REPORTS, Effort(REPORT_S).spend, made)
    except TooLarge:
        why = f"slice: the figures take more than {REPORT_S:g} s to compute; ask for fewer slices, or fewer runs"
        raise InvalidRequest(why, param="slice") from None


async def page(told: dict[str, Any]) -> str:
    """The same for people."""
    from models.grading.report import html_of  # noqa: PLC0415 -- jinja and plots, for whoever looks

    return await _in(_REPORTS, html_of, told)


async def _check_criterion(state: State, caller: Caller, spec: dict[str, Any], place: str, effort: Effort) -> None:
    try:
        await beside(effort.spend, grader_of, spec)
    except TooLarge as error:
        raise TooLarge(f"testing_criteria: to read them all, {error.message}", param="testing_criteria") from None
    except InvalidRequest as error:
        param = f"{place}.{error.param}" if error.param else place
        raise InvalidRequest(f"{place}.{error.message}", param=param, code=error.own_code) from None
    check_fields(spec, place)
    for where, judge in judges_of(spec, place):
        await _check_judge(state, caller, judge, where)


async def _check_judge(state: State, caller: Caller, spec: Mapping[str, Any], place: str) -> None:
    """What would be refused of each of its questions, after the answers are paid for, is refused now."""
    card = await _card(state, caller, spec["model"], f"{place}.model")
    body = draft(spec)
    try:
        validated(ChatRequest, body)
        check_abilities(card, body)
    except InvalidRequest as error:
        param = error.param or ""
        within = (
            "input" + param.removeprefix("messages") if param.startswith("messages") else f"sampling_params.{param}"
        )
        where, said = f"{place}.{within}", error.message.removeprefix(f"{param}: ")
        raise InvalidRequest(f"{where}: {said}", param=where, code=error.own_code) from None


async def _candidate(state: State, caller: Caller, model: str) -> Card:
    if model.startswith(evals.ALIAS):
        raise InvalidRequest(f"{_MODEL}: the winner of an eval has a name of its own; use that", param=_MODEL)
    return await _card(state, caller, model, _MODEL)


async def _card(state: State, caller: Caller, model: str, where: str) -> Card:
    try:
        card = await state.intake.card(caller, model)
    except NotFound as error:
        raise NotFound(f"{where}: {error.message}", param=where, code=error.own_code) from None
    if not caller.may_use(card.id, model):
        raise ModelNotAllowed(f"this account may not use the model {model!r}", param=where)
    return card


async def _items(state: State, caller: Caller, row: Eval, source: Any) -> list[Item]:
    if isinstance(source, FileContent):
        return datasets.inline(source.content)
    if isinstance(source, FileId):
        file = BytesIO(await _file(state, caller, source.id))
        return await beside(lambda: list(datasets.from_lines(file)))
    meta = {} if row.source["type"] == "custom" else row.source.get("metadata") or {}
    query = partial(logged.items, account_id=caller.account_id, wanted=source, meta=meta)
    return await state.database.read(query)


async def _file(state: State, caller: Caller, file_id: str) -> bytes:
    query = partial(files.find, account_id=caller.account_id, file_id=file_id, now_ms=now_ms())
    file = await state.database.read(query)
    if file is None:
        raise NotFound(f"there is no file {file_id!r}", param="data_source.source.id")
    if file.bytes > FILE_MOST_BYTES:
        raise TooLarge(
            f"the file has {file.bytes:,} bytes; a run reads at most {FILE_MOST_BYTES:,}", param="data_source.source.id"
        )
    return await state.objects.get(files.object_key(caller.account_id, file.id))
