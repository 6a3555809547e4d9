"""/v1/evals/{eval_id}/runs: an eval's questions asked of a model, or answers that came with them, and their grades.  OpenAI's."""

from dataclasses import asdict
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from sqlalchemy.orm import Session
from starlette.responses import HTMLResponse, Response

from api import runs
from api.acceptance import Asked, made_before
from api.answers import json_response, page_of, window_ascending
from api.deps import State, body_of, caller_of, key_of, state_of
from api.progress import progress
from api.routes.evals import delete_runs, eval_of
from infra.clock import now_ms
from models import batches, eval_items, evals, idempotency
from models.accounts import Caller
from models.batches import NewBatch
from models.datasets import Item
from models.errors import NotFound
from models.evals import NewRun, Run
from models.listings import Window
from models.tables.batches import BatchKind
from models.tables.evals import Outcome
from models.wire.eval_views import item_view, run_view
from models.wire.evals import run_request

router = APIRouter(prefix="/v1/evals/{eval_id}/runs")
Status = Literal["queued", "in_progress", "completed", "canceled", "failed"]


@router.post("", summary="Run an eval", status_code=201)
async def create_run(request: Request, eval_id: str) -> Response:
    state, caller, key = state_of(request), await caller_of(request), key_of(request)
    row, body = await eval_of(state, caller, eval_id), await body_of(request)
    asked = None if key is None else Asked(caller.account_id, key, idempotency.digest(f"evals/{eval_id}", body))
    if asked and (known := await made_before(state, asked)):
        return await _created(state, caller, eval_id, known, again=True)
    wanted = run_request(body)
    items = await runs.questions(state, caller, row, wanted)
    batch, run = runs.new_run(caller, row, wanted)
    made = await state.database.write(partial(_once, batch=batch, run=run, items=items, asked=asked))
    return await _created(state, caller, eval_id, made, again=made != run.id)


@router.get("", summary="List an eval's runs")
async def list_runs(
    request: Request,
    eval_id: str,
    pages: Annotated[Window, Depends(window_ascending)],
    status: Status | None = None,
) -> Response:
    state, caller = state_of(request), await caller_of(request)
    await eval_of(state, caller, eval_id)
    where = [] if status is None else [evals.with_status(status)]

    def query(session: Session) -> tuple[list[dict[str, object]], bool]:
        found, more = evals.runs_page(session, eval_id, pages, *where)
        usage = evals.usage_of(session, [run.row.id for run in found])
        return [run_view(run, usage[run.row.id], state.settings.url) for run in found], more

    rows, has_more = await state.database.read(query)
    return page_of(rows, has_more=has_more)


@router.get("/{run_id}", summary="Retrieve a run")
async def retrieve_run(request: Request, eval_id: str, run_id: str) -> Response:
    state, caller = state_of(request), await caller_of(request)
    return json_response(await _view(state, caller, eval_id, run_id))


@router.post("/{run_id}/cancel", summary="Cancel a run")
async def cancel_run(request: Request, eval_id: str, run_id: str) -> Response:
    """What runs is stopped a moment later.  An ended run stays as it is."""
    return await _cancelled(state_of(request), await caller_of(request), eval_id, run_id)


@router.post("/{run_id}", summary="Cancel a run, as older clients do")
async def post_run(request: Request, eval_id: str, run_id: str) -> Response:
    return await _cancelled(state_of(request), await caller_of(request), eval_id, run_id)


@router.delete("/{run_id}", summary="Delete a run with its samples, really")
async def delete_run(request: Request, eval_id: str, run_id: str) -> Response:
    state, caller = state_of(request), await caller_of(request)
    await _run(state, caller, eval_id, run_id)
    await delete_runs(state, [run_id])
    return json_response({"object": "eval.run.deleted", "deleted": True, "run_id": run_id})


@router.get("/{run_id}/output_items", summary="List what a run has graded")
async def list_items(
    request: Request,
    eval_id: str,
    run_id: str,
    pages: Annotated[Window, Depends(window_ascending)],
    status: Literal["pass", "fail", "error"] | None = None,
) -> Response:
    """While the run goes on, too.  Where items are large, a page has fewer than its limit."""
    state, caller = state_of(request), await caller_of(request)
    run = await _run(state, caller, eval_id, run_id)
    outcome = None if status is None else Outcome(status)
    query = partial(eval_items.page, run_id=run_id, window=pages, outcome=outcome)
    found, has_more = await state.database.read(query)
    return page_of([item_view(run, item) for item in found], has_more=has_more)


@router.get("/{run_id}/output_items/{item_id}", summary="Retrieve one of them")
async def retrieve_item(request: Request, eval_id: str, run_id: str, item_id: str) -> Response:
    state, caller = state_of(request), await caller_of(request)
    run = await _run(state, caller, eval_id, run_id)
    item = await state.database.read(partial(eval_items.find, run_id=run_id, name=item_id))
    if item is None:
        raise NotFound(f"there is no output item {item_id!r}", param="output_item_id")
    return json_response(item_view(run, item))


@router.get("/{run_id}/events", summary="Follow a run's progress")
async def follow_run(request: Request, eval_id: str, run_id: str) -> Response:
    state, caller = state_of(request), await caller_of(request)
    await _run(state, caller, eval_id, run_id)
    look = partial(batches.find, account_id=caller.account_id, batch_id=run_id, kind=BatchKind.EVAL)
    return await progress(state, look, _missing(run_id))


@router.get("/{run_id}/report", summary="A run's report, as a page")
async def show_report(request: Request, eval_id: str, run_id: str) -> Response:
    """One HTML file that fetches nothing."""
    state, caller = state_of(request), await caller_of(request)
    row = await eval_of(state, caller, eval_id)
    return HTMLResponse(await runs.page(await runs.report(state, caller, row, [run_id])))


def _once(session: Session, batch: NewBatch, run: NewRun, items: list[Item], asked: Asked | None) -> str:
    known = run.id if asked is None else idempotency.taken(session, **asdict(asked), name=run.id, now_ms=run.created_ms)
    if known == run.id:
        runs.start(session, batch, run, items)
    return known


async def _cancelled(state: State, caller: Caller, eval_id: str, run_id: str) -> Response:
    await _run(state, caller, eval_id, run_id)
    verb = partial(batches.cancel, account_id=caller.account_id, batch_id=run_id, kind=BatchKind.EVAL, now_ms=now_ms())
    await state.database.write(verb)
    return json_response(await _view(state, caller, eval_id, run_id))


async def _created(state: State, caller: Caller, eval_id: str, run_id: str, *, again: bool) -> Response:
    headers = {"location": f"/v1/evals/{eval_id}/runs/{run_id}"} | ({"idempotent-replayed": "true"} if again else {})
    return json_response(await _view(state, caller, eval_id, run_id), 201, headers)


async def _run(state: State, caller: Caller, eval_id: str, run_id: str) -> Run:
    query = partial(evals.find_run, account_id=caller.account_id, eval_id=eval_id, run_id=run_id)
    run = await state.database.read(query)
    if run is None:
        raise _missing(run_id)
    return run


def _missing(run_id: str) -> NotFound:
    return NotFound(f"there is no run {run_id!r} of this eval", param="run_id")


async def _view(state: State, caller: Caller, eval_id: str, run_id: str) -> dict[str, object]:
    run = await _run(state, caller, eval_id, run_id)

    def query(session: Session) -> dict[str, object]:
        inline = run.row.source["source"]["type"] == "file_content"
        content = evals.content_of(session, run_id) if inline else ()
        return run_view(run, evals.usage_of(session, [run_id])[run_id], state.settings.url, content)

    return await state.database.read(query)
