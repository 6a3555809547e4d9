"""Does the feeder make jobs of rows in windows, count each once, and end a batch once, whoever dies and whatever a limit says?"""

import asyncio
from functools import partial

import pytest
from sqlalchemy import select

from infra.clock import now_ms
from models import accounts, batch_turns, batches
from models.batches import NewBatch, NewRow
from models.lifecycle import JobState
from models.tables.batches import Batch, BatchKind, BatchState
from models.tables.jobs import Job
from models.tables.webhooks import Delivery
from tests.workers import feeding
from tests.workers.feeding import BODY, HOOK, answer, begin, get, rows, turn

world = feeding.world


async def test_rows_become_jobs_window_by_window_and_each_is_counted_once(world, monkeypatch):
    monkeypatch.setattr(batch_turns, "WINDOW", 4)
    feeder = world.feeder()
    await begin(world, rows=10, bad=True, hook=HOOK)
    await turn(feeder)
    windows = []
    while left := await answer(world):
        windows.append(left)
        await turn(feeder)
    assert windows == [4, 4, 2]
    batch = await get(world)
    assert (batch.state, batch.total, batch.completed, batch.failed) == (BatchState.COMPLETED, 11, 10, 1)
    assert (batch.prompt_tokens, batch.completion_tokens, batch.output) == (30, 20, {"rows": 11})
    assert len(set(world.sent)) == len(world.sent) == 10
    deliveries = await world.database.read(lambda session: session.scalars(select(Delivery)).all())
    assert [(each.batch_id, each.job_id, each.type) for each in deliveries] == [("batch_1", None, "batch.completed")]


async def test_what_an_answer_leads_to_is_part_of_the_batch(world):
    feeder = world.feeder()
    await begin(world, rows=2, follow=True)
    await turn(feeder)
    await answer(world)
    await turn(feeder)
    found = await rows(world)
    assert [(row.number, row.state) for row in found] == [(0, "completed"), (1, "completed"), (1000, "running")]
    assert found[0].detail == {"saw": found[0].job_id}
    await answer(world, state=JobState.FAILED)
    await turn(feeder)
    batch = await get(world)
    assert (batch.state, batch.completed, batch.failed, batch.total) == (BatchState.COMPLETED, 2, 1, 3)


async def test_two_feeders_at_once_make_each_job_once(world):
    await begin(world, rows=50)
    first, second = world.feeder("a"), world.feeder("b")
    await first.database.write(lambda session: batch_turns.take(session, "a", now_ms()))
    for feeder in (first, second):  # whose leases say that both hold it
        feeder._busy["batch_1"] = asyncio.create_task(feeder._go_on("batch_1"))
    await asyncio.gather(first._busy["batch_1"], second._busy["batch_1"])
    made = await world.database.read(lambda session: session.scalars(select(Job.id)).all())
    assert sorted(made) == sorted(row.job_id for row in await rows(world))
    assert len(made) == 50
    await answer(world)
    await asyncio.gather(first._go_on("batch_1"), second._go_on("batch_1"))
    batch = await get(world)
    assert (batch.state, batch.completed, batch.failed) == (BatchState.COMPLETED, 50, 0)


async def test_a_lease_keeps_another_feeder_away_until_it_is_silent(world):
    await begin(world, rows=1)
    take, mine = partial(batch_turns.take, now_ms=1_000_000), {"batch_1": world.account}
    assert await world.database.write(partial(take, holder="a")) == mine
    assert await world.database.write(partial(take, holder="b")) == {}
    later = 1_000_000 + batch_turns.LEASE_MS + 1
    assert await world.database.write(partial(batch_turns.take, holder="b", now_ms=later)) == mine


async def test_many_batches_of_one_account_leave_others_their_turn(world, monkeypatch):
    monkeypatch.setattr(batch_turns, "AT_ONCE", 2)
    for number in range(6):
        await begin(world, f"batch_{number}", rows=1)
    bob = await world.database.write(lambda session: accounts.create_account(session, "bob", 2))
    new = NewBatch("batch_9", bob, BatchKind.FILE, {"rows": 1}, now_ms())
    await world.database.write(partial(batches.begin, batch=new))
    feeder, begun = world.feeder(), []
    for _ in range(3):
        await turn(feeder)
        found = await world.database.read(lambda session: session.scalars(select(Batch).order_by(Batch.id)).all())
        begun.append([batch.id[-1] for batch in found if batch.state is BatchState.IN_PROGRESS])
    assert begun == [["0", "1", "9"], ["0", "1", "2", "3", "9"], ["0", "1", "2", "3", "4", "5", "9"]]


@pytest.mark.parametrize(("how_many", "jobs_open"), [(1, 8), (2, 8), (4, 12)])
async def test_batches_of_one_account_share_its_window_and_each_has_some(world, monkeypatch, how_many, jobs_open):
    monkeypatch.setattr(batch_turns, "WINDOW", 8)
    monkeypatch.setattr(batch_turns, "LEAST", 3)
    for number in range(how_many):
        await begin(world, f"batch_{number}", rows=20)
    await turn(world.feeder())
    assert await answer(world) == jobs_open


async def test_a_cancelled_batch_stops_its_jobs_and_drops_what_waits(world, monkeypatch):
    monkeypatch.setattr(batch_turns, "WINDOW", 2)
    feeder = world.feeder()
    await begin(world, rows=5, hook=HOOK)
    await turn(feeder)
    await answer(world, limit=1)
    cancel = partial(batches.cancel, account_id=world.account, batch_id="batch_1", kind=BatchKind.FILE)
    assert await world.database.write(partial(cancel, now_ms=now_ms())) is BatchState.CANCELLING
    await turn(feeder)
    batch = await get(world)
    assert (batch.state, batch.completed, batch.failed) == (BatchState.CANCELLED, 1, 4)
    assert [row.error["code"] for row in await rows(world) if row.job_id is None] == ["batch_cancelled"] * 3
    assert await world.database.write(partial(cancel, now_ms=now_ms())) is BatchState.CANCELLED, "and stays so"


async def test_a_batch_whose_time_is_over_ends_with_what_it_has(world, monkeypatch, caplog):
    monkeypatch.setattr(batch_turns, "WINDOW", 2)
    feeder = world.feeder()
    await begin(world, rows=4, expires_ms=now_ms() + 60_000)
    await turn(feeder)
    await answer(world)
    await world.database.write(lambda session: setattr(session.get_one(Batch, "batch_1"), "expires_ms", now_ms()))
    await turn(feeder)
    batch = await get(world)
    assert (batch.state, batch.completed, batch.failed) == (BatchState.EXPIRED, 2, 2)
    assert "could not be moved" not in caplog.text, "and is left alone from then on"


async def test_one_whose_rows_were_all_answered_in_time_is_complete_whenever_it_is_looked_at(world, monkeypatch):
    monkeypatch.setattr(batches, "SETTLE_MOST", 2)
    feeder = world.feeder()
    await begin(world, rows=5, expires_ms=now_ms() + 60_000)
    await turn(feeder)
    await answer(world)
    await world.database.write(lambda session: setattr(session.get_one(Batch, "batch_1"), "expires_ms", now_ms()))
    await turn(feeder)
    batch = await get(world)
    assert (batch.state, batch.completed, batch.expired_ms) == (BatchState.COMPLETED, 5, None)


async def test_one_that_has_expired_waits_for_what_runs_and_stays_expired(world):
    feeder = world.feeder()
    await begin(world, rows=2, expires_ms=now_ms() + 60_000)
    await turn(feeder)
    await world.database.write(lambda session: setattr(session.get_one(Batch, "batch_1"), "expires_ms", now_ms()))
    await turn(feeder)
    noted = (await get(world)).expired_ms
    assert noted is not None
    await turn(feeder)
    assert (await get(world)).state is BatchState.IN_PROGRESS
    await answer(world)
    await turn(feeder)
    batch = await get(world)
    assert (batch.state, batch.completed, batch.expired_ms) == (BatchState.EXPIRED, 2, noted)


async def test_a_batch_whose_rows_cannot_be_made_ends_with_its_time(world):
    async def fails(feeder, batch):
        await feeder.database.write(partial(batches.add, batch_id=batch.id, rows=[NewRow(0, BODY)]))
        raise RuntimeError("as it would the next time")

    feeder = world.feeder()
    feeder.kinds[BatchKind.FILE].prepare = fails
    await begin(world, hook=HOOK, expires_ms=now_ms() + 60_000)
    await turn(feeder)
    assert (await get(world)).state is BatchState.VALIDATING
    await world.database.write(lambda session: setattr(session.get_one(Batch, "batch_1"), "expires_ms", now_ms()))
    await turn(feeder)
    batch = await get(world)
    assert (batch.state, batch.total, [each["code"] for each in batch.errors]) == ("expired", 0, ["batch_expired"])
    assert await rows(world) == []
    deliveries = await world.database.read(lambda session: session.scalars(select(Delivery)).all())
    assert [each.type for each in deliveries] == ["batch.expired"]
