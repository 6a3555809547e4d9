"""How do the lines of a batch's results come to be?  From its rows, their jobs, and the answers that lie in the object store.

The API tells them while the batch runs, upkeep writes them to its files: the same lines.  One is made at a time, since an answer with
all its log probabilities takes megabytes as text, and five times as much while it is parsed.
"""

from functools import partial
from typing import Any

import orjson

from infra.database import Database
from infra.objects import ObjectStore
from infra.results import PAGE_BYTES, result_of
from models import batch_results
from models.batch_results import Ended
from models.lifecycle import JobState
from models.tables.batches import Batch
from models.tables.jobs import Job
from models.wire.batches import line


async def line_of(objects: ObjectStore, batch: Batch, ended: Ended) -> bytes:
    """JSON without a line's end."""
    return orjson.dumps(line(batch, ended.row, ended.job, await _completion(objects, ended.job)))


async def page(
    database: Database, objects: ObjectStore, batch: Batch, after: int | None, limit: int
) -> tuple[dict[int, bytes], bool]:
    """Lines by their rows' numbers, as they ended behind the row `after`, as many as a page holds; and whether there are more."""
    told: dict[int, bytes] = {}
    query = partial(batch_results.as_they_ended, batch_id=batch.id)
    while ended := await database.read(
        partial(query, after=after, limit=min(batch_results.PAGE_ROWS, limit - len(told) + 1))
    ):
        for each in ended:
            if len(told) == limit or sum(map(len, told.values())) >= PAGE_BYTES:
                return told, True
            told[each.row.number] = await line_of(objects, batch, each)
        after = ended[-1].row.number
    return told, False


async def _completion(objects: ObjectStore, job: Job | None) -> dict[str, Any] | None:
    """None: there is none, or it is not there any more."""
    if job is None or job.state is not JobState.COMPLETED:
        return None
    result = await result_of(objects, job)
    return None if result is None else result["completion"]
