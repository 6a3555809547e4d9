"""/v1/replays: recorded turns, asked again with the same or changed model and parameters, and compared."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.acceptance import Accepted, Asked, headers_of, jobs_ahead, made_before, made_once, publish
from api.answers import json_response, page_of, window
from api.deps import State, body_of, caller_of, key_of, state_of
from api.middleware import add_headers
from infra.admission import admit
from infra.clock import now_ms
from models import ids, replays
from models.accounts import Caller
from models.errors import Conflict, InvalidRequest, NotFound
from models.handover import NewJob
from models.idempotency import digest, start_once
from models.lifecycle import FINAL
from models.listings import Window, page
from models.placement import Tier
from models.replay import request_again
from models.replays import NewReplay, Recorded
from models.requests import Lineage
from models.tables.jobs import Door
from models.tables.replays import Replay
from models.wire.problems import validated
from models.wire.replays import ReplayRequest, replay_view

router = APIRouter(prefix="/v1/replays")


@router.post("", summary="Ask recorded turns again", status_code=202)
async def create_replay(request: Request) -> Response:
    state, caller, key = state_of(request), await caller_of(request), key_of(request)
    body = await body_of(request)
    asked = None if key is None else Asked(caller.account_id, key, digest(Door.REPLAY, body))
    if asked and (known := await made_before(state, asked)):
        return await _accepted(state, caller, Accepted(known, again=True))
    wanted = validated(ReplayRequest, body)
    turns = await _recorded(state, caller, wanted)
    replay_id = ids.new("rpl")
    jobs = [await state.intake.prepare(caller, *_again(turn, wanted, replay_id)) for turn in turns]
    new = NewReplay(
        id=replay_id,
        account_id=caller.account_id,
        source_job_id=None if wanted.source_request_id is None else ids.job_of(wanted.source_request_id),
        source_conversation_id=wanted.source_conversation_id,
        target_model=wanted.target_model,
        overrides=wanted.overrides,
        turns=len(jobs),
        created_ms=now_ms(),
    )
    ahead = await jobs_ahead(state, jobs[0])
    jobs = await admit(state.database, state.redis, caller, jobs, add_headers)
    made = await made_once(state, caller, jobs, replay_id, partial(_start, replay=new, jobs=jobs, asked=asked))
    if made != replay_id:
        return await _accepted(state, caller, Accepted(made, again=True))
    publish(state, jobs)
    return await _accepted(state, caller, Accepted(made, ahead=ahead))


@router.get("", summary="List replays")
async def list_replays(request: Request, pages: Annotated[Window, Depends(window)]) -> Response:
    state, caller = state_of(request), await caller_of(request)

    def query(session: Session) -> tuple[list[dict[str, Any]], bool]:
        found = page(session, Replay, caller.account_id, pages)
        return [replay_view(row, replays.pairs(session, row.id)) for row in found.rows], found.has_more

    rows, has_more = await state.database.read(query)
    return page_of(rows, has_more=has_more)


@router.get("/{replay_id}", summary="Retrieve a replay with its verdicts")
async def retrieve_replay(request: Request, replay_id: str) -> Response:
    return json_response(await _view(state_of(request), await caller_of(request), replay_id))


def _start(session: Session, replay: NewReplay, jobs: list[NewJob], asked: Asked | None) -> str:
    """The id of the replay that the request stands for."""
    if asked is None:
        replays.start(session, replay, jobs)
        return replay.id
    return start_once(session, replay, jobs, asked.key, asked.digest_of, replay.created_ms)


async def _accepted(state: State, caller: Caller, made: Accepted) -> Response:
    headers = {"location": f"/v1/replays/{made.job_id}"} | headers_of(made)
    return json_response(await _view(state, caller, made.job_id), 202, headers)


async def _recorded(state: State, caller: Caller, wanted: ReplayRequest) -> list[Recorded]:
    job_id = None if wanted.source_request_id is None else ids.job_of(wanted.source_request_id)
    query = partial(
        replays.recorded, account_id=caller.account_id, job_id=job_id, conversation_id=wanted.source_conversation_id
    )
    turns = await state.database.read(query)
    param = "source_request_id" if job_id else "source_conversation_id"
    if not turns:
        raise NotFound("nothing is stored under this id (yet)", param=param)
    if len(turns) > replays.TURNS_MOST:
        raise InvalidRequest(f"at most {replays.TURNS_MOST} turns can be replayed at once", param=param)
    if any(turn.job.state not in FINAL for turn in turns):
        raise Conflict("a turn of this is still running", param=param)
    return turns


def _again(turn: Recorded, wanted: ReplayRequest, replay_id: str) -> tuple[dict[str, Any], Door, Lineage]:
    model = wanted.target_model or turn.job.model
    overrides = {"service_tier": Tier.FLEX.value} | wanted.overrides  # nobody waits for a comparison
    body = request_again(turn.job.parameters or {}, turn.messages, model, overrides)
    return body, Door.REPLAY, Lineage(replay_id, turn.job.id, turn.conversation_id)


async def _view(state: State, caller: Caller, replay_id: str) -> dict[str, Any]:
    def query(session: Session) -> dict[str, Any] | None:
        row = replays.find(session, caller.account_id, replay_id)
        return None if row is None else replay_view(row, replays.pairs(session, row.id))

    view = await state.database.read(query)
    if view is None:
        raise NotFound(f"there is no replay {replay_id!r}", param="replay_id")
    return view
