"""Is one line of a batch's results made at a time, however large its answer, and does a page end where it has enough?"""

from functools import partial

import orjson
import pytest

from infra import batch_results
from infra.clock import now_ms
from models import jobs
from models.handover import Ending
from models.lifecycle import JobState
from models.packing import pack
from models.tables.batches import BatchState
from tests.workers import test_batch_file as writing
from tests.workers.feeding import get, rows, turn

world, place = writing.world, writing.place
ROWS = 6


@pytest.fixture
async def answered(place):
    """Rows whose answers, of 100 kB, lie in the object store, and a feeder that has still to look at them."""
    await writing.begin(place, b"".join(writing.line(number) for number in range(ROWS)))
    feeder = place.feeder()
    await turn(feeder)
    for row in await rows(place):
        key = f"results/{row.job_id}"
        await place.store.put(key, pack({"completion": {"id": row.job_id, "text": "x" * 100_000}}))
        await place.database.write(partial(_end, name=row.job_id, key=key))
    return feeder


def _end(session, name, key):
    claimed = jobs.claim(session, name, "w", now_ms())
    jobs.finish(session, name, claimed.attempt, Ending(JobState.COMPLETED, now_ms(), result_key=key))


async def test_a_file_is_written_line_by_line(place, answered, monkeypatch):
    seen, get_object, put = [], place.store.get, place.store.put_stream

    async def noted(pieces):
        async for piece in pieces:
            seen.append("wrote")
            yield piece

    def read(key):
        seen.append("read")
        return get_object(key)

    monkeypatch.setattr(place.store, "get", read)
    monkeypatch.setattr(place.store, "put_stream", lambda key, pieces: put(key, noted(pieces)))
    await turn(answered)
    assert (await get(place)).state is BatchState.COMPLETED
    assert seen == ["read", "wrote"] * ROWS
    monkeypatch.undo()
    told = await writing.held(place, writing.OUT)
    assert [line["custom_id"] for line in told] == [f"r{number}" for number in range(ROWS)]
    assert all(len(line["response"]["body"]["text"]) == 100_000 for line in told)


async def test_a_page_ends_where_its_limit_or_its_bytes_do(place, answered, monkeypatch):
    await turn(answered)
    batch = await get(place)
    page = partial(batch_results.page, place.database, place.store, batch)
    whole, more = await page(None, 100)
    assert (list(whole), more) == (list(range(ROWS)), False)
    assert [orjson.loads(line)["custom_id"] for line in whole.values()] == [f"r{number}" for number in range(ROWS)]
    assert await page(None, ROWS) == (whole, False)
    assert [list(part) for part, _ in (await page(None, 4), await page(3, 4))] == [[0, 1, 2, 3], [4, 5]]
    assert (await page(None, 4))[1]
    monkeypatch.setattr(batch_results, "PAGE_BYTES", 150_000)
    parts = [await page(after, 100) for after in (None, 1, 3)]
    assert [(list(part), more) for part, more in parts] == [([0, 1], True), ([2, 3], True), ([4, 5], False)]
    assert await page(5, 100) == ({}, False)
