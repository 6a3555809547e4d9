"""What did a job answer?  Its result, from the row or, where it was too large for that, from the object store.

Each attempt has a key of its own there, so an answer can be cleared away whose worker died before its row named it.
"""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

from infra.database import Database
from infra.objects import ObjectStore
from models import jobs
from models.errors import NotFound, Unavailable
from models.handover import Doomed
from models.packing import unpack
from models.tables.jobs import Job

log = logging.getLogger(__name__)

PAGE_BYTES = 8 << 20
"""Of a list of answers; a page of ordinary ones has a tenth of that.  The one that reaches it is the last."""


def key_of(job_id: str, attempt: int) -> str:
    return f"results/{job_id}/{attempt}"


async def result_of(objects: ObjectStore, job: Job) -> dict[str, Any] | None:
    """None: there is none (any more; the row may have been read a moment before its answer went).  Raises Unavailable."""
    if job.result_key is None:
        return job.result
    try:
        found: dict[str, Any] = unpack(await objects.get(job.result_key))
    except NotFound:
        return None
    return found


async def result_by_id(database: Database, objects: ObjectStore, job_id: str) -> dict[str, Any] | None:
    """The same for who has read many rows, and so without their results: each may be two megabytes."""
    job = await database.read(lambda session: session.get(Job, job_id))
    return None if job is None else await result_of(objects, job)


async def clear(database: Database, objects: ObjectStore, doomed: Sequence[Doomed]) -> bool:
    """Deletes what the attempts of ended jobs have put, once no row names it.  False: it cannot be done now; upkeep will."""
    keys = [key_of(job.job_id, attempt) for job in doomed for attempt in range(1, job.attempt + 1)]
    try:
        await asyncio.gather(*(objects.delete(key) for key in keys))
        await database.write(partial(jobs.forgotten, ids=[job.job_id for job in doomed]))
    except Unavailable as error:
        log.warning("what %d jobs answered is not cleared away yet: %s", len(doomed), error)
        return False
    return True
