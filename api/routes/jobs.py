"""/v1/jobs: an answer for later; fetched, listed, cancelled, followed, told again."""

from functools import partial
from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Query, Request
from sqlalchemy import ColumnElement
from starlette.responses import Response

from api.acceptance import accept, headers_of, shown
from api.answers import json_response, metadata_filters, page_of, window
from api.cancel import cancel
from api.deps import body_of, caller_of, key_of, state_of
from api.lines import EventStream, entries, only
from api.pace import SPEED, paced, speed_of
from api.records import job_of, stream_of
from infra.results import result_of
from infra.token_stream import START, EventId
from models.errors import Conflict
from models.ids import job_of as job_id_of
from models.lifecycle import FINAL, JobState
from models.listings import Window, page
from models.tables.jobs import Door, Job
from models.wire.ending import StreamEnd
from models.wire.jobs import job_view

router = APIRouter(prefix="/v1/jobs")
_UNSHOWN = (Job.messages, Job.chain, Job.parameters, Job.result)
"""Of a job in a list; what waits may have megabytes of each."""
_LATEST_S = 253_402_300_799  # the end of the year 9999; in milliseconds it still fits the column


@router.post("", summary="Submit a job", status_code=202)
async def submit_job(request: Request) -> Response:
    state, caller = state_of(request), await caller_of(request)
    accepted = await accept(state, caller, await body_of(request), Door.JOB, key_of(request))
    job = await shown(state, caller, accepted)
    return json_response(job_view(job), 202, {"location": f"/v1/jobs/{job.id}"} | headers_of(accepted))


@router.get("", summary="List jobs")
async def list_jobs(
    request: Request,
    pages: Annotated[Window, Depends(window)],
    state_word: Annotated[JobState | None, Query(alias="state")] = None,
    door: Annotated[Door | None, Query(description="Where it came in")] = None,
    part_of: Annotated[str | None, Query(max_length=40, description="A batch, a replay or a run of an eval")] = None,
    model: Annotated[str | None, Query(max_length=200)] = None,
    created_after: Annotated[int | None, Query(ge=0, le=_LATEST_S, description="Unix time in seconds")] = None,
    created_before: Annotated[int | None, Query(ge=0, le=_LATEST_S, description="Unix time in seconds")] = None,
) -> Response:
    state, caller = state_of(request), await caller_of(request)
    wanted: list[tuple[object, ColumnElement[bool]]] = [
        (state_word, Job.state == state_word),
        (door, Job.door == door),
        (part_of, Job.batch_id == part_of),
        (model, Job.model == model),
        (created_after, Job.created_ms >= (created_after or 0) * 1000),
        (created_before, Job.created_ms < (created_before or 0) * 1000),
    ]
    where = [clause for given, clause in wanted if given is not None]
    where += [Job.deleted_ms.is_(None), *metadata_filters(request)]
    query = partial(page, without=_UNSHOWN)
    found = await state.database.read(lambda session: query(session, Job, caller.account_id, pages, *where))
    return page_of([job_view(job) for job in found.rows], has_more=found.has_more)


@router.get("/{job_id}", summary="Retrieve a job")
async def retrieve_job(request: Request, job_id: str) -> Response:
    state, caller = state_of(request), await caller_of(request)
    job = await job_of(state, caller.account_id, job_id_of(job_id))
    result = await result_of(state.objects, job)
    return json_response(job_view(job, result["completion"] if result else None))


@router.delete("/{job_id}", summary="Cancel a job")
async def cancel_job(request: Request, job_id: str) -> Response:
    """A running job is cancelled a moment later: `cancel_requested` says that it will be.  An ended one stays as it is."""
    state, caller = state_of(request), await caller_of(request)
    await cancel(state, caller.account_id, job_id_of(job_id))
    return json_response(job_view(await job_of(state, caller.account_id, job_id_of(job_id))))


@router.get("/{job_id}/events", summary="Follow a job's answer")
async def follow_job(request: Request, job_id: str) -> Response:
    """Server-sent events; `Last-Event-ID` (or `?last_event_id=`) goes on behind the last one seen."""
    state, caller = state_of(request), await caller_of(request)
    job = await job_of(state, caller.account_id, job_id_of(job_id))
    told = request.headers.get("last-event-id") or request.query_params.get("last_event_id")
    after = EventId.parse(told) if told else START
    if job.state not in FINAL:
        return EventStream(entries(state, job.id, after), closing=partial(_closing, job.id), headers={}, observing=True)
    rest = stream_of(job, await result_of(state.objects, job), after)
    if told and after.sequence >= rest.last_sequence:
        return Response(status_code=204)  # tells an EventSource that there is no reason to come back
    return EventStream(only(rest), closing=partial(_closing, job.id), headers={}, observing=True)


@router.get("/{job_id}/replay", summary="Tell a recorded answer again, as it was made or faster")
async def tell_again(
    request: Request,
    job_id: str,
    speed: Annotated[str, Query(pattern=SPEED, description="`1`, `2x`, …, or `max`: all at once")] = "1",
) -> Response:
    """The job's events at the pace they had, counted from its claim; `Last-Event-ID` goes on behind the last one seen."""
    state, caller, faster = state_of(request), await caller_of(request), speed_of(speed)
    job = await job_of(state, caller.account_id, job_id_of(job_id))
    if job.state not in FINAL:
        raise Conflict("it is still being made; its events tell of it", code="still_running")
    result = await result_of(state.objects, job)
    told = request.headers.get("last-event-id")
    rest = stream_of(job, result, EventId.parse(told) if told else START)
    waited_ms = (job.started_ms or job.created_ms) - job.created_ms
    line = paced(rest, result["times_ms"] if result else [], waited_ms, faster)
    return EventStream(line, closing=partial(_closing, job.id), headers={}, observing=True)


def _closing(job_id: str, ending: StreamEnd, event_id: EventId) -> bytes:
    error = ending.error and {name: ending.error[name] for name in ("code", "message", "param")}  # not its class
    told = {"id": job_id, "object": "job", "state": ending.state, "error": error}
    return b"id: %b\nevent: end\ndata: %b\n\n" % (str(event_id).encode(), orjson.dumps(told))
