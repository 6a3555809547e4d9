"""/v1/evals: what is measured, and on what.  OpenAI's evals, and AIGateway's shorthand, which runs its candidates at once."""

from dataclasses import asdict
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from sqlalchemy.orm import Session
from starlette.responses import Response

from api import runs
from api.acceptance import Asked, made_before
from api.answers import json_response, page_of, window_ascending
from api.deps import State, body_of, caller_of, key_of, state_of
from infra.clock import now_ms
from infra.results import clear
from models import deletions, evals, idempotency, ids
from models.accounts import Caller
from models.errors import ModelNotAllowed, NotFound
from models.evals import NewEval
from models.handover import Doomed
from models.listings import Window
from models.tables.evals import Eval, Metric
from models.wire.eval_views import eval_view, shorthand_view
from models.wire.evals import EvalRequest, EvalUpdate, ShorthandRequest, is_shorthand
from models.wire.problems import validated
from models.wire.shorthand import as_eval, as_runs

router = APIRouter(prefix="/v1/evals")
DELETED_AT_ONCE = 100
"""Jobs whose words go in one transaction."""


@router.post("", summary="Create an eval; AIGateway's runs at once", status_code=201)
async def create_eval(request: Request) -> Response:
    state, caller, key = state_of(request), await caller_of(request), key_of(request)
    body = await body_of(request)
    asked = None if key is None else Asked(caller.account_id, key, idempotency.digest("evals", body))
    if asked and (known := await made_before(state, asked)):
        return await _created(state, caller, known, again=True)
    verb = await (_candidates(state, caller, body, asked) if is_shorthand(body) else _eval(state, caller, body, asked))
    own, make = verb
    made = await state.database.write(make)
    return await _created(state, caller, made, again=made != own)


@router.get("", summary="List evals")
async def list_evals(
    request: Request,
    pages: Annotated[Window, Depends(window_ascending)],
    order_by: Literal["created_at", "updated_at"] = "created_at",
) -> Response:
    state, caller = state_of(request), await caller_of(request)

    def query(session: Session) -> tuple[list[dict[str, Any]], bool]:
        rows, more = evals.listed(session, caller.account_id, pages, by_update=order_by == "updated_at")
        return _views(session, rows), more

    rows, has_more = await state.database.read(query)
    return page_of(rows, has_more=has_more)


@router.get("/{eval_id}", summary="Retrieve an eval")
async def retrieve_eval(request: Request, eval_id: str) -> Response:
    state, caller = state_of(request), await caller_of(request)
    return json_response(await _view(state, caller, eval_id))


@router.post("/{eval_id}", summary="Rename an eval, or change its metadata")
async def update_eval(request: Request, eval_id: str) -> Response:
    state, caller = state_of(request), await caller_of(request)
    wanted = validated(EvalUpdate, await body_of(request))
    changed: dict[str, Any] = {} if wanted.name is None else {"name": wanted.name}
    if "metadata" in wanted.model_fields_set:
        changed["meta"] = wanted.metadata or {}
    await eval_of(state, caller, eval_id)
    verb = partial(evals.change, account_id=caller.account_id, eval_id=eval_id, now_ms=now_ms(), **changed)
    await state.database.write(verb)
    return json_response(await _view(state, caller, eval_id))


@router.delete("/{eval_id}", summary="Delete an eval with its runs, really")
async def delete_eval(request: Request, eval_id: str) -> Response:
    state, caller = state_of(request), await caller_of(request)
    await eval_of(state, caller, eval_id)
    found = await state.database.read(partial(evals.runs_of, eval_ids=[eval_id]))
    await delete_runs(state, [run.row.id for run in found[eval_id]])
    await state.database.write(partial(evals.delete_eval, eval_id=eval_id))
    return json_response({"object": "eval.deleted", "deleted": True, "eval_id": eval_id})


@router.get("/{eval_id}/compare", summary="Compare runs of an eval, item by item")
async def compare_runs(
    request: Request,
    eval_id: str,
    run_ids: Annotated[str, Query(alias="runs", max_length=500, description="Their ids, the baseline first")],
    slices: Annotated[list[str], Query(alias="slice", max_length=10, description="A path such as item.level")] = [],  # noqa: B006
) -> Response:
    state, caller = state_of(request), await caller_of(request)
    row = await eval_of(state, caller, eval_id)
    told = await runs.report(state, caller, row, run_ids.split(","), slices)
    return json_response(
        {name: value for name, value in told.items() if name not in {"items", "verdict", "thresholds"}}
    )


async def eval_of(state: State, caller: Caller, eval_id: str) -> Eval:
    """Raises NotFound."""
    found = await state.database.read(partial(evals.find, account_id=caller.account_id, eval_id=eval_id))
    if found is None:
        raise NotFound(f"there is no eval {eval_id!r}", param="eval_id")
    return found


async def delete_runs(state: State, run_ids: list[str]) -> None:
    """What was said in their jobs, and all that is known of them.  Raises Conflict while one is open."""
    await state.database.read(partial(evals.require_ended, run_ids=run_ids))
    some = partial(evals.jobs_left, run_ids=run_ids, limit=DELETED_AT_ONCE)
    there = True
    while doomed := await state.database.read(some):
        await state.database.write(partial(_forget, doomed=doomed, at_ms=now_ms()))
        there = there and await clear(state.database, state.objects, doomed)
    await state.database.write(partial(evals.delete_runs, run_ids=run_ids, now_ms=now_ms()))


async def _eval(state: State, caller: Caller, body: dict[str, Any], asked: Asked | None) -> Any:
    wanted = validated(EvalRequest, body)
    await runs.check_eval(state, caller, wanted)
    new = _new(caller, wanted)
    return new.id, partial(_once, new=new, begun=[], asked=asked)


async def _candidates(state: State, caller: Caller, body: dict[str, Any], asked: Asked | None) -> Any:
    wanted = validated(ShorthandRequest, body)
    judge = await state.intake.card(caller, None)
    made = as_eval(wanted, judge.id)
    try:
        await runs.check_eval(state, caller, made)
    except ModelNotAllowed as error:
        why = f"metric: {error.message}, which judges where no answer is expected"
        raise ModelNotAllowed(why, param="metric") from None
    new = _new(caller, made, wanted.metric)
    row = Eval(**{name: getattr(new, name) for name in NewEval.__slots__})
    begun = []
    for run in await runs.beside(as_runs, wanted):
        items = await runs.questions(state, caller, row, run)
        begun.append((*runs.new_run(caller, row, run), items))
    return new.id, partial(_once, new=new, begun=begun, asked=asked)


def _new(caller: Caller, wanted: EvalRequest, metric: Metric | None = None) -> NewEval:
    name = ids.new("eval")
    return NewEval(
        id=name,
        account_id=caller.account_id,
        name=wanted.name or name,
        source=wanted.data_source_config.model_dump(exclude_none=True),
        criteria=wanted.testing_criteria,
        metric=metric,
        meta=wanted.metadata or {},
        created_ms=now_ms(),
    )


def _once(session: Session, new: NewEval, begun: list[Any], asked: Asked | None) -> str:
    known = new.id if asked is None else idempotency.taken(session, **asdict(asked), name=new.id, now_ms=new.created_ms)
    if known == new.id:
        evals.create(session, new)
        for batch, run, items in begun:
            runs.start(session, batch, run, items)
    return known


def _forget(session: Session, doomed: list[Doomed], at_ms: int) -> None:
    for job in doomed:
        deletions.delete_job(session, job.job_id, at_ms)


async def _created(state: State, caller: Caller, eval_id: str, *, again: bool) -> Response:
    headers = {"location": f"/v1/evals/{eval_id}"} | ({"idempotent-replayed": "true"} if again else {})
    return json_response(await _view(state, caller, eval_id), 201, headers)


async def _view(state: State, caller: Caller, eval_id: str) -> dict[str, Any]:
    row = await eval_of(state, caller, eval_id)
    (view,) = await state.database.read(lambda session: _views(session, [row]))
    return view


def _views(session: Session, rows: Any) -> list[dict[str, Any]]:
    short = evals.runs_of(session, [row.id for row in rows if row.metric is not None])
    return [eval_view(row) if row.metric is None else shorthand_view(row, short[row.id]) for row in rows]
