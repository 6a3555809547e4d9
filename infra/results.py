"""What did a job answer?  Its result, from the row or, where it was too large for that, from the object store."""

from typing import Any

from infra.objects import ObjectStore
from models.packing import unpack
from models.tables.jobs import Job


async def result_of(objects: ObjectStore, job: Job) -> dict[str, Any] | None:
    """None: there is none (any more).  Raises NotFound for an object that was deleted a moment ago, Unavailable."""
    if job.result_key is None:
        return job.result
    found: dict[str, Any] = unpack(await objects.get(job.result_key))
    return found
