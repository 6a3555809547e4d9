"""How do the lines of a batch's results come to be?  From its rows, their jobs, and the answers that lie in the object store.

The API tells them while the batch runs, upkeep writes them to its files: the same lines.
"""

from collections.abc import Iterable
from typing import Any

from infra.objects import ObjectStore
from infra.results import result_of
from models.batch_results import Ended
from models.errors import NotFound
from models.lifecycle import JobState
from models.tables.batches import Batch
from models.tables.jobs import Job
from models.wire.batches import line


async def lines(objects: ObjectStore, batch: Batch, ended: Iterable[Ended]) -> list[dict[str, Any]]:
    return [line(batch, each.row, each.job, await _completion(objects, each.job)) for each in ended]


async def _completion(objects: ObjectStore, job: Job | None) -> dict[str, Any] | None:
    """None: there is none, or it is not there any more."""
    if job is None or job.state is not JobState.COMPLETED:
        return None
    try:
        result = await result_of(objects, job)
    except NotFound:
        return None
    return None if result is None else result["completion"]
