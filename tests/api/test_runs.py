"""Are the figures of runs computed beside what others wait for, and not for ever?"""

import asyncio
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from api import runs
from infra.clock import now_ms
from infra.objects import DirectoryStore
from models import accounts, batches, eval_items, evals, files
from models.batches import NewBatch
from models.datasets import Item
from models.errors import InvalidRequest
from models.eval_items import Graded
from models.evals import NewEval, NewRun
from models.files import NewFile, Purpose
from models.tables.batches import BatchKind
from models.tables.evals import Eval, Outcome
from models.wire.evals import run_request

RUN = "evalrun_" + "0" * 26
SCORED = {"name": "near", "type": "text_similarity", "passed": True, "sample": None, "error": None}
SAMPLE = {"input": [], "output": [{"role": "assistant", "content": "said"}], "usage": {}, "error": None}
WITHIN_S = 20.0


@pytest.fixture
async def world(database):
    """An eval with a run of four graded items."""

    def verb(session):
        account = accounts.create_account(session, "ada", 1)
        config = {"type": "custom", "item_schema": {}}
        evals.create(session, NewEval("eval_1", account, "n", config, [{"name": "near"}], None, {}, 1))
        batches.begin(session, NewBatch(RUN, account, BatchKind.EVAL, {}, 1))
        tally = {"name": "near", "passed": 0, "failed": 0, "errored": 0, "score": 0.0}
        source = {"type": "jsonl", "source": {"type": "file_content"}}
        evals.start(
            session, NewRun(RUN, "eval_1", account, "r", None, source, [tally], 1), [Item({"n": n}) for n in range(4)]
        )
        grades = [Graded(n, Outcome.PASS, [SCORED | {"score": n / 4}], SAMPLE) for n in range(4)]
        eval_items.grade(session, RUN, grades, 1)
        return account

    account = await database.write(verb)
    row = await database.read(lambda session: session.get_one(Eval, "eval_1"))
    return SimpleNamespace(
        state=SimpleNamespace(database=database), caller=SimpleNamespace(account_id=account), row=row
    )


async def test_a_report_is_made_while_the_loops_own_threads_are_taken(world):
    loop, free = asyncio.get_running_loop(), asyncio.Event()
    pool = ThreadPoolExecutor(1)
    loop.set_default_executor(pool)
    taken = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(free.wait(), loop).result()))
    try:
        async with asyncio.timeout(WITHIN_S):
            told = await runs.report(world.state, world.caller, world.row, [RUN], ["item.n"])
    finally:
        free.set()
        await taken
    assert told["runs"][0]["scores"]["near"]["mean"] == 0.375
    assert [item["answers"][0]["output"] for item in told["items"]] == ["said"] * 4


async def test_figures_that_take_too_long_are_refused(world, monkeypatch):
    monkeypatch.setattr(runs, "REPORT_S", 0.0)
    with pytest.raises(InvalidRequest, match="fewer slices") as refused:
        await runs.report(world.state, world.caller, world.row, [RUN], ["item.n"])
    assert refused.value.param == "slice"


async def test_the_lines_of_a_file_are_not_held_beside_it(world, tmp_path):
    """Thirty million empty ones are 270 MB more, and were cut on the loop."""
    store, size = DirectoryStore(tmp_path), 1 << 20
    await store.open()
    account, file_id = world.caller.account_id, files.new_id()
    await store.put(files.object_key(account, file_id), b"\n" * size + b'{"item": {"n": 1}}')

    def stored(session):
        files.begin(session, file_id, account, now_ms())
        files.store(session, NewFile(file_id, "in.jsonl", Purpose.EVALS, size, None))

    await world.state.database.write(stored)
    world.state.objects = store
    source = {"type": "jsonl", "source": {"type": "file_id", "id": file_id}}
    wanted = run_request({"data_source": source})
    await runs.questions(world.state, world.caller, world.row, wanted)  # what is loaded for the first time is no line
    tracemalloc.start()
    try:
        found = await runs.questions(world.state, world.caller, world.row, wanted)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        await store.close()
    assert [each.where for each in found] == [f"line {size + 1}"]
    assert most < 4 * size
