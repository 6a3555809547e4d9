"""What a replay does among batches: its rows are made again alike, tokens are read from where results lie, live rows follow."""

from functools import partial
from types import SimpleNamespace

import orjson
import pytest

from infra.objects.directory import DirectoryStore
from models import accounts, batches, jobs, token_places
from models.batches import NewBatch
from models.handover import Ending
from models.lifecycle import JobState
from models.packing import pack
from models.tables.batches import Batch, BatchKind, BatchRow, BatchState
from models.tables.jobs import Door, Job
from models.verdicts import judge
from tests.models.conftest import NOW, claimed, new_job, said, spoken
from tests.plugins.loops import called_here
from workers.replay import Replays

HISTORY = [said("a"), said("b", "assistant"), said("c")]
SPEC = {"target_model": None, "overrides": {}, "history": "recorded", "mode": "exact", "repeats": 1}
ONE, TWO = (f"job_{number:026}" for number in (1, 2))


def result(*pieces):
    chunks = [orjson.dumps([{"index": 0, "delta": {"content": piece}}]).decode() for piece in pieces]
    return {"completion": {"choices": [{"logprobs": None}]}, "chunks": chunks, "tokens": [*range(1, len(pieces) + 1)]}


def turn(session, account, job_id, messages, answer, **facts):
    ending = {name: facts.pop(name) for name in ("result", "result_key", "state") if name in facts}
    jobs.submit(session, [new_job(session, account, messages, id=job_id, **facts)])
    claimed(session, job_id)
    told = [] if answer is None else [spoken(answer)]
    jobs.finish(session, job_id, 1, Ending(**({"state": JobState.COMPLETED, "at_ms": NOW, "answers": told} | ending)))


@pytest.fixture
async def world(database, tmp_path):
    objects = DirectoryStore(tmp_path)
    await objects.open()

    def begin(session):
        account = accounts.create_account(session, "ada", NOW)
        turn(session, account, ONE, HISTORY[:1], "b", result=result("b"))
        turn(session, account, TWO, HISTORY, "red car", result=result("red", " car"))
        return account

    account = await database.write(begin)
    yield SimpleNamespace(database=database, objects=objects, account=account)
    await objects.close()


async def begun(world, **changes):
    new = NewBatch("rpl_1", world.account, BatchKind.REPLAY, SPEC | {"turns": [ONE, TWO]} | changes, NOW)
    await world.database.write(partial(batches.begin, batch=new))
    await Replays().prepare(world, await got(world))
    return await got(world)


async def got(world):
    return await world.database.read(lambda session: session.get_one(Batch, "rpl_1"))


async def answered(world, batch, number, answer, **ending):
    """The row's job has ended; what that leads to."""

    def verb(session):
        row = session.get_one(BatchRow, (batch.id, number))
        name = f"job_{100 + number:026}"
        facts = {"door": Door.REPLAY, "batch_id": batch.id, "source_job_id": row.source_job_id}
        turn(session, world.account, name, HISTORY[:1], answer, **facts, **ending)
        row.job_id = name

    await world.database.write(verb)

    def settled(session):
        row = session.get_one(BatchRow, (batch.id, number))
        return [batches.Settled(row, session.get_one(Job, row.job_id))]

    return (await Replays().consider(world, batch, await world.database.read(settled))).get(number)


async def test_rows_that_are_made_twice_are_the_same(world):
    batch = await begun(world, repeats=2)
    assert (batch.state, batch.total) == (BatchState.IN_PROGRESS, 4)


async def test_the_token_is_read_from_the_row_or_the_object_store(world):
    batch = await begun(world)
    effect = await answered(world, batch, 1, "red bus", result=result("red", " bus"))
    assert effect.detail["token"] == {"token": 1, "told_by": "stream"}
    assert effect.detail["judgement"]["difference"]["position"] == 4
    assert effect.rows == ()
    await world.objects.put("results/x", pack(result("blue")))
    effect = await answered(world, batch, 0, "blue", result_key="results/x")
    assert effect.detail["token"] == {"token": 0, "told_by": "stream"}


async def test_a_result_that_is_gone_tells_no_token_and_yet_a_verdict(world):
    batch = await begun(world)
    effect = await answered(world, batch, 1, "blue", result_key="results/gone")
    assert (effect.detail["token"], effect.detail["judgement"]["difference"]["position"]) == (None, 0)


async def test_equal_answers_are_not_looked_up(world):
    batch = await begun(world)
    effect = await answered(world, batch, 1, "red car", result_key="results/gone")
    assert (effect.detail["token"], effect.detail["judgement"]["verdict"]) == (None, "identical")


async def test_answers_are_compared_beside_the_loop(world):
    """It is upkeep's, for all that it does; long answers take 15 ms each."""
    batch = await begun(world)
    with called_here() as called:
        effect = await answered(world, batch, 1, "red bus", result=result("red", " bus"))
    assert (effect.detail["token"]["token"], effect.detail["judgement"]["difference"]["position"]) == (1, 4)
    assert Replays.consider.__code__ in called
    assert not {judge.__code__, token_places.parting.__code__} & called


async def test_a_live_turn_leads_to_the_next(world):
    batch = await begun(world, history="live")
    assert batch.total == 1
    effect = await answered(world, batch, 0, "B")
    (row,) = effect.rows
    assert (row.number, row.detail) == (1, {"repeat": 0, "same_history": False})
    assert row.body == {"messages": [said("a"), said("B", "assistant"), said("c")]}


async def test_a_live_turn_that_fails_ends_its_conversation(world):
    batch = await begun(world, history="live")
    effect = await answered(world, batch, 0, None, state=JobState.FAILED)
    assert [(row.number, row.body, row.error["code"]) for row in effect.rows] == [(1, None, "conversation_ended")]


async def test_a_turn_that_was_deleted_meanwhile_leads_to_nothing(world):
    batch = await begun(world)

    def delete(session):
        session.get_one(Job, TWO).deleted_ms = NOW

    await world.database.write(delete)
    assert await answered(world, batch, 1, "red car") is None


async def test_the_whole_is_added_up_at_its_end(world):
    batch = await begun(world)
    effect = await answered(world, batch, 1, "red bus")

    def settle(session):
        batches.remember(session, batch.id, 1, effect.detail)
        row = session.get_one(BatchRow, (batch.id, 1))
        row.state = "completed"

    await world.database.write(settle)
    told = await Replays().conclude(world, batch, BatchState.COMPLETED)
    assert told["verdicts"] == {"not_comparable": 2}, "one by dice, one was never asked"
    assert told["summary"]["reasons"] == {
        "environment_unknown": 1,
        "no_answer": 1,
        "not_deterministic": 1,
        "sampled": 1,
    }
    assert Replays().event(BatchState.COMPLETED) == "replay.completed"
