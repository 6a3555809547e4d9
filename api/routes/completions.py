"""/v1/chat/completions/{id}: completions that were stored, or are still being made in the background.

OpenAI's stored completions, and its background responses' way to poll, to come back to a stream and to cancel.
"""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.answers import json_response, metadata_filters, page_named, page_of, window_ascending
from api.cancel import cancel
from api.deps import State, body_of, caller_of, state_of
from api.lines import EventStream, chat_closing, entries, only
from api.records import job_of, stream_of
from infra.clock import now_ms
from infra.results import PAGE_BYTES, clear, result_of
from infra.token_stream import NUMBER_MOST, START, EventId
from models import jobs, transcripts
from models.accounts import Caller
from models.deletions import delete_job
from models.errors import Conflict, InvalidRequest, NotFound
from models.handover import Doomed
from models.ids import completion_of
from models.ids import job_of as job_id_of
from models.lifecycle import FINAL, JobState
from models.listings import Window, page
from models.tables.jobs import Door, Job
from models.tables.transcripts import Turn
from models.wire.completions import CompletionUpdate, completion_view, message_views
from models.wire.problems import validated

router = APIRouter(prefix="/v1/chat/completions")


@router.get("", summary="List stored chat completions")
async def list_completions(
    request: Request,
    pages: Annotated[Window, Depends(window_ascending)],
    model: Annotated[str | None, Query(max_length=200)] = None,
) -> Response:
    """Where answers are large, a page has fewer than its limit."""
    state, caller = state_of(request), await caller_of(request)
    where = [Job.store.is_(True), Job.deleted_ms.is_(None), Job.state == JobState.COMPLETED]
    where += [Job.door.not_in((Door.REPLAY, Door.EVAL, Door.IMPORT))]
    where += [Job.model == model] if model else []
    where += metadata_filters(request)
    found = await state.database.read(lambda session: page(session, Job, caller.account_id, pages, *where))
    told = await _page(state, found.rows)
    rest = found.has_more or len(told) < len(found.rows)
    return page_named([*told], [orjson.Fragment(text) for text in told.values()], has_more=rest)


@router.get("/{name}", summary="Retrieve a chat completion, or come back to its stream")
async def retrieve_completion(
    request: Request,
    name: str,
    stream: bool = False,
    starting_after: Annotated[
        int, Query(ge=0, le=NUMBER_MOST, description="Number of the last chunk seen: the end of its event id")
    ] = 0,
) -> Response:
    state, caller = state_of(request), await caller_of(request)
    job = await _stored(state, caller, name)
    if not stream:
        return json_response(completion_view(job, await _completion(state, job)))
    told = request.headers.get("last-event-id")
    after = EventId.parse(told) if told else EventId(0, starting_after) if starting_after else START
    line = (
        entries(state, job.id, after)
        if job.state not in FINAL
        else only(stream_of(job, await result_of(state.objects, job), after))
    )
    return EventStream(line, closing=chat_closing, headers={"x-tram-job": job.id})


@router.post("/{name}", summary="Change a stored chat completion's metadata")
async def update_completion(request: Request, name: str) -> Response:
    state, caller = state_of(request), await caller_of(request)
    body = await body_of(request)
    wanted = validated(CompletionUpdate, body)
    job = await _stored(state, caller, name)
    await state.database.write(partial(jobs.describe, job_id=job.id, meta=wanted.metadata))
    job = await _stored(state, caller, name)
    return json_response(completion_view(job, await _completion(state, job)))


@router.delete("/{name}", summary="Delete a stored chat completion, really")
async def delete_completion(request: Request, name: str) -> Response:
    state, caller = state_of(request), await caller_of(request)
    job = await _stored(state, caller, name)
    if job.state not in FINAL:
        raise Conflict("it is still being made; cancel it first", code="still_running")
    await state.database.write(partial(delete_job, job_id=job.id, now_ms=now_ms()))
    await clear(state.database, state.objects, [Doomed(job.id, job.attempt)])
    await state.database.scrub()
    return json_response({"id": completion_of(job.id), "object": "chat.completion.deleted", "deleted": True})


@router.get("/{name}/messages", summary="List the messages a chat completion answers")
async def list_messages(request: Request, name: str, pages: Annotated[Window, Depends(window_ascending)]) -> Response:
    state, caller = state_of(request), await caller_of(request)
    job = await _stored(state, caller, name)
    messages = message_views(job, await state.database.read(partial(_prompt, job=job)))
    if not pages.ascending:
        messages.reverse()
    known = [view["id"] for view in messages]
    if pages.after is not None and pages.after not in known:
        raise InvalidRequest("after: no such message", param="after")
    rest = messages[known.index(pages.after) + 1 :] if pages.after else messages
    return page_of(rest[: pages.limit], has_more=len(rest) > pages.limit)


@router.post("/{name}/cancel", summary="Cancel a chat completion that is still being made")
async def cancel_completion(request: Request, name: str) -> Response:
    state, caller = state_of(request), await caller_of(request)
    job = await _stored(state, caller, name)
    await cancel(state, caller.account_id, job.id)
    job = await _stored(state, caller, name)
    return json_response(completion_view(job, await _completion(state, job)))


async def _stored(state: State, caller: Caller, name: str) -> Job:
    job = await job_of(state, caller.account_id, job_id_of(name))
    if not job.store:
        raise NotFound(f"the chat completion {name!r} was not stored", param="completion_id")
    return job


async def _page(state: State, rows: Sequence[Job]) -> dict[str, bytes]:
    """One after the other: an answer with all its log probabilities takes megabytes as text, and more while it is parsed."""
    told: dict[str, bytes] = {}
    for job in rows:
        if sum(map(len, told.values())) >= PAGE_BYTES:
            break
        told[completion_of(job.id)] = orjson.dumps(completion_view(job, await _completion(state, job)))
    return told


async def _completion(state: State, job: Job) -> dict[str, Any] | None:
    result = await result_of(state.objects, job)
    return result["completion"] if result else None


def _prompt(session: Session, job: Job) -> list[dict[str, Any]]:
    """From the transcript, or from the row while the job is open."""
    turn = session.get(Turn, job.id)
    if turn is None:
        return job.messages or []
    return transcripts.path(transcripts.tree_above(session, [turn.prompt]), turn.prompt)
