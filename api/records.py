"""What does the database still know of a job's answer?  Its result, and from that the stream it was, chunk by chunk.

The result holds the choices of every chunk, so a stream rebuilt here is byte for byte the one that Redis has forgotten, with the
same event ids.
"""

import asyncio
from functools import partial
from typing import Any

from sqlalchemy.orm import Session

from api.deps import State
from infra.results import result_of
from infra.token_stream import Entry, EventId
from models import jobs
from models.errors import Cancelled, NotFound, Unavailable
from models.lifecycle import FINAL, JobState
from models.tables.jobs import Job
from models.wire.chat import tier_of
from models.wire.ending import StreamEnd
from models.wire.stream import Frame

LOOK_S = 1.0
"""A row is read in a millisecond; what Redis has to tell is not to wait for longer, and there is another look."""


async def job_of(state: State, account_id: str, job_id: str) -> Job:
    """Raises NotFound, for somebody else's job too."""
    job = await state.database.read(partial(jobs.find, account_id=account_id, job_id=job_id))
    if job is None:
        raise NotFound(f"there is no job {job_id!r}", param="job_id", code="job_not_found")
    return job


async def stored_entries(state: State, job_id: str, seen: EventId) -> list[Entry]:
    """What an ended job's stream held behind `seen`, in one entry; nothing while the job is open, or the database away."""
    try:
        async with asyncio.timeout(LOOK_S):
            job = await state.database.read(partial(_get, job_id=job_id))
    except (Unavailable, TimeoutError):
        return []
    if job is None or job.state not in FINAL:
        return []
    return [stream_of(job, await result_of(state.objects, job), seen)]


def stream_of(job: Job, result: dict[str, Any] | None, seen: EventId) -> Entry:
    chunks = _chunks(job, result) if result else []
    whole = result["completion"] if result else None
    error = job.error or _lost(job, result)
    waited = None if job.started_ms is None else max(0, job.started_ms - job.created_ms)
    final = StreamEnd(job.state, error, whole, waited).dump()
    first = min(seen.sequence, len(chunks)) + 1
    return Entry(job.attempt, first, chunks[first - 1 :], final)


def _chunks(job: Job, result: dict[str, Any]) -> list[bytes]:
    parameters = job.parameters or {}
    include_usage = bool((parameters.get("stream_options") or {}).get("include_usage"))
    created_s, tier = job.created_ms // 1000, tier_of(parameters)
    frame = Frame(
        job_id=job.id,
        model=job.model,
        created_s=created_s,
        include_usage=include_usage,
        tier=tier,
        fingerprint=result["completion"].get("system_fingerprint"),
    )
    chunks = [frame.chunk(choices.encode()) for choices in result["chunks"]]
    if include_usage and job.state is JobState.COMPLETED:
        chunks.append(frame.usage(result["completion"]["usage"]))
    return chunks


def _lost(job: Job, result: dict[str, Any] | None) -> dict[str, Any] | None:
    """An answer that was not to be kept cannot be told again; of a job that was cancelled in its queue the state says it all."""
    if job.state is JobState.CANCELLED:
        return Cancelled("the job was cancelled").as_json()
    if job.state is JobState.COMPLETED and result is None:
        return NotFound("the answer was not stored", code="answer_not_stored").as_json()
    return None


def _get(session: Session, job_id: str) -> Job | None:
    return session.get(Job, job_id)
