"""/v1/replays: recorded turns, asked again with the same or changed model, prompt and parameters, and compared."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from sqlalchemy.orm import Session
from starlette.responses import Response, StreamingResponse

from api.acceptance import Asked, made_before
from api.answers import json_response, page_of, window
from api.deps import State, body_of, caller_of, key_of, state_of
from api.progress import progress
from infra.clock import now_ms
from infra.outbound import check_url
from models import batches, idempotency, ids, replayed, replays
from models.accounts import Caller
from models.batches import NewBatch, begin
from models.errors import Conflict, InvalidRequest, NotFound
from models.lifecycle import FINAL
from models.listings import LIMIT_MOST, Window, page
from models.replay_summary import Summary
from models.replays import Planned
from models.tables.batches import Batch, BatchKind
from models.tables.jobs import Door
from models.verdicts import Verdict
from models.wire.problems import validated
from models.wire.replays import SHOWN, TURNS_MOST, ReplayRequest, planned_of, replay_view, turn_view

router = APIRouter(prefix="/v1/replays")
SUMMED_MOST = 1000
"""Rows added up for one look at a replay that runs; of a longer one the sums are told when it has ended."""


@router.post("", summary="Ask recorded turns again", status_code=202)
async def create_replay(request: Request) -> Response:
    state, caller, key = state_of(request), await caller_of(request), key_of(request)
    body = await body_of(request)
    asked = None if key is None else Asked(caller.account_id, key, idempotency.digest(Door.REPLAY, body))
    if asked and (known := await made_before(state, asked)):
        return await _accepted(state, caller, known, again=True)
    wanted = validated(ReplayRequest, body)
    if wanted.webhook_url is not None:
        check_url(wanted.webhook_url, state.settings.webhook_networks)
    turns = await _planned(state, caller, wanted)
    new = _new(caller, wanted, turns)
    await _check(state, caller, new, turns)
    made = await state.database.write(partial(_begun, new=new, asked=asked))
    return await _accepted(state, caller, made, again=made != new.id)


@router.get("", summary="List replays")
async def list_replays(request: Request, pages: Annotated[Window, Depends(window)]) -> Response:
    state, caller = state_of(request), await caller_of(request)

    def query(session: Session) -> tuple[list[dict[str, Any]], bool]:
        found = page(session, Batch, caller.account_id, pages, Batch.kind == BatchKind.REPLAY)
        return [_view(session, batch, shown=0) for batch in found.rows], found.has_more

    rows, has_more = await state.database.read(query)
    return page_of(rows, has_more=has_more)


@router.get("/{replay_id}", summary="Retrieve a replay with its verdicts")
async def retrieve_replay(request: Request, replay_id: str) -> Response:
    state, caller = state_of(request), await caller_of(request)
    return json_response(await _told(state, caller, replay_id))


@router.get("/{replay_id}/turns", summary="List a replay's turns, each compared with what it repeats")
async def list_turns(
    request: Request,
    replay_id: str,
    after: Annotated[int, Query(ge=-1, lt=2**31, description="The last number of the page before")] = -1,
    limit: Annotated[int, Query(ge=1, le=LIMIT_MOST)] = 20,
    verdict: Annotated[Verdict | None, Query(description="Only those with this verdict")] = None,
) -> Response:
    state, caller = state_of(request), await caller_of(request)

    def query(session: Session) -> list[dict[str, Any]]:
        batch = _found(session, caller.account_id, replay_id)
        return _turns(session, batch, after, limit + 1, verdict)

    rows = await state.database.read(query)
    last = rows[:limit][-1]["number"] if rows else None
    body = {"object": "list", "data": rows[:limit], "has_more": len(rows) > limit, "last_number": last}
    return json_response(body)


@router.get("/{replay_id}/events", summary="Watch a replay")
async def watch_replay(request: Request, replay_id: str) -> StreamingResponse:
    """Server-sent events: how far it is, whenever that has changed; then `[DONE]`."""
    state, caller = state_of(request), await caller_of(request)
    look = partial(replays.find, account_id=caller.account_id, replay_id=replay_id)
    return await progress(state, look, _missing(replay_id))


@router.post("/{replay_id}/cancel", summary="Cancel a replay")
async def cancel_replay(request: Request, replay_id: str) -> Response:
    """What runs is stopped, what waits is not asked; what was answered stays.  One that has ended stays as it is."""
    state, caller = state_of(request), await caller_of(request)
    verb = partial(
        batches.cancel,
        account_id=caller.account_id,
        batch_id=replay_id,
        kind=BatchKind.REPLAY,
        now_ms=now_ms(),
    )
    if await state.database.write(verb) is None:
        raise _missing(replay_id)
    return json_response(await _told(state, caller, replay_id))


async def _planned(state: State, caller: Caller, wanted: ReplayRequest) -> list[Planned]:
    job_id = None if wanted.source_request_id is None else ids.job_of(wanted.source_request_id)
    query = partial(
        replays.plan,
        account_id=caller.account_id,
        job_id=job_id,
        conversation_id=wanted.source_conversation_id,
        wanted=wanted.filter,
    )
    turns: list[Planned] = await state.database.read(query)
    param = "source_request_id" if job_id else "filter" if wanted.filter else "source_conversation_id"
    if not turns:
        words = "no stored turn fits this filter" if wanted.filter else "nothing is stored under this id (yet)"
        raise NotFound(words, param=param)
    if len(turns) * wanted.repeats > TURNS_MOST:
        raise InvalidRequest(f"at most {TURNS_MOST} turns can be replayed at once, repeats counted", param=param)
    if any(turn.state not in FINAL for turn in turns):
        raise Conflict("a turn of this is still running", param=param)
    return turns


def _new(caller: Caller, wanted: ReplayRequest, turns: list[Planned]) -> NewBatch:
    models = {turn.model for turn in turns}
    spec = {
        "source_request_id": None if wanted.source_request_id is None else ids.job_of(wanted.source_request_id),
        "source_conversation_id": wanted.source_conversation_id,
        "filter": None if wanted.filter is None else wanted.filter.model_dump(exclude_none=True),
        "source_model": models.pop() if len(models) == 1 else None,
        "target_model": wanted.model,
        "shadow": wanted.shadow,
        "overrides": wanted.overrides,
        "history": wanted.history,
        "mode": wanted.mode,
        "repeats": wanted.repeats,
        "turns": [turn.job_id for turn in turns],
    }
    return NewBatch(
        id=ids.new("rpl"),
        account_id=caller.account_id,
        kind=BatchKind.REPLAY,
        spec=spec,
        created_ms=now_ms(),
        tag=caller.tag,
        meta=wanted.metadata,
        webhook_url=wanted.webhook_url,
    )


async def _check(state: State, caller: Caller, new: NewBatch, turns: Sequence[Planned]) -> None:
    """An override that no request may have is told now, by one turn's request, which is only made to be looked at.

    The first turn whose model there is: where each is asked of its own, those of models that are gone fail by themselves.
    """
    known = (turn for turn in turns if new.spec["target_model"] or state.intake.fleet.known(turn.model))
    chosen = next(known, turns[0])
    body = await state.database.read(partial(replays.request_of, spec=new.spec, job_id=chosen.job_id))
    await state.intake.prepare(caller, body, Door.REPLAY)


def _begun(session: Session, new: NewBatch, asked: Asked | None) -> str:
    """The id of the replay that the request stands for."""
    if asked is None:
        begin(session, new)
        return new.id
    return idempotency.begin_once(session, new, asked.key, asked.digest_of)


async def _accepted(state: State, caller: Caller, replay_id: str, *, again: bool) -> Response:
    headers = {"location": f"/v1/replays/{replay_id}"} | ({"idempotent-replayed": "true"} if again else {})
    return json_response(await _told(state, caller, replay_id), 202, headers)


async def _told(state: State, caller: Caller, replay_id: str) -> dict[str, Any]:
    def query(session: Session) -> dict[str, Any]:
        return _view(session, _found(session, caller.account_id, replay_id), shown=SHOWN)

    view: dict[str, Any] = await state.database.read(query)
    return view


def _view(session: Session, batch: Batch, *, shown: int) -> dict[str, Any]:
    planned, output = planned_of(batch), batch.output
    if output is None and batch.total and planned <= SUMMED_MOST:
        output = Summary.of(planned, replayed.details_of(session, batch)).output()
    few = shown or (1 if planned == 1 else 0)
    turns = _turns(session, batch, -1, few, None) if few else None
    return replay_view(batch, output, turns)


def _turns(session: Session, batch: Batch, after: int, limit: int, verdict: Verdict | None) -> list[dict[str, Any]]:
    return [
        turn_view(each.row, each.detail, each.recorded, each.replayed, batch.spec["mode"])
        for each in replayed.shown(session, batch, after, limit, verdict)
    ]


def _found(session: Session, account_id: str, replay_id: str) -> Batch:
    batch = replays.find(session, account_id, replay_id)
    if batch is None:
        raise _missing(replay_id)
    return batch


def _missing(replay_id: str) -> NotFound:
    return NotFound(f"there is no replay {replay_id!r}", param="replay_id")
