"""Does a run end whoever dies, with each item asked about and counted once?  Jobs end by the verbs that workers use."""

import asyncio
from functools import partial
from threading import Event
from types import SimpleNamespace

import pytest
from sqlalchemy import select

from infra.clock import now_ms
from infra.fleet_view import Fleet
from infra.images import Images
from infra.intake import Intake
from infra.outbound import Outbound
from infra.redis import client
from infra.token_stream import TokenWriter
from models import accounts, batch_rows, batch_turns, batches, evals, jobs
from models.batches import NewBatch
from models.datasets import Item
from models.errors import NotFound
from models.eval_items import graded_of
from models.eval_results import blank_tallies
from models.evals import NewEval, NewRun
from models.grading import Grader, grader_of
from models.handover import Ending
from models.lifecycle import JobState
from models.packing import pack
from models.tables.batches import Batch, BatchKind, BatchRow, BatchState
from models.tables.evals import EvalRun
from models.tables.jobs import Job
from models.tables.transcripts import Conversation
from models.tables.webhooks import Delivery
from workers import grade
from workers.batch import Feeder
from workers.grade import Evals

RUN = "evalrun_1"
LIMIT_S = 20
ASK = {"type": "template", "template": [{"role": "user", "content": "{{item.ask}}"}]}
SOURCE = {"type": "completions", "model": "tram-demo", "source": {"type": "file_content"}, "input_messages": ASK}
RIGHT = {
    "type": "string_check",
    "name": "right",
    "operation": "eq",
    "input": "{{sample.output_text}}",
    "reference": "{{item.wanted}}",
}
JUDGE = {
    "type": "score_model",
    "name": "judge",
    "model": "tram-demo",
    "input": [{"role": "user", "content": "judge {{sample.output_text}}"}],
}


@pytest.fixture
async def world(database, redis_url):
    redis = client(redis_url)
    await redis.flushall()
    stream, outbound = TokenWriter(redis), Outbound(())
    await stream.open()
    await outbound.open()
    publisher = SimpleNamespace(publish_soon=lambda *_: None)
    objects = SimpleNamespace(get=absent)
    intake = Intake(database, Fleet(redis), Images(outbound), ())
    account = await database.write(lambda session: accounts.create_account(session, "ada", 1))

    def feeder(name="f"):
        return Feeder(name, database, redis, stream, objects, publisher, intake, {BatchKind.EVAL: Evals()})

    yield SimpleNamespace(database=database, account=account, feeder=feeder, objects=objects)
    await outbound.close()
    await stream.close()
    await redis.aclose()


async def absent(key):
    raise NotFound(f"there is no object {key!r}")


async def begin(world, *criteria, rows=4, model="tram-demo", given=None, run=RUN, account=None):
    source = SOURCE if model else {"type": "jsonl", "source": {"type": "file_content"}}
    criteria = list(criteria) or [RIGHT]
    items = [Item({"ask": f"say {n}", "wanted": f"say {n}"}, given) for n in range(rows)]

    def verb(session):
        config, owner, name = {"type": "custom", "item_schema": {}}, account or world.account, f"eval_{run}"
        evals.create(session, NewEval(name, owner, "n", config, criteria, None, {}, 1))
        hook = "http://127.0.0.1:9/hook"
        batches.begin(session, NewBatch(run, owner, BatchKind.EVAL, {}, 1, webhook_url=hook))
        new = NewRun(run, name, owner, "r", model, source, blank_tallies(criteria), 1)
        evals.start(session, new, items)

    await world.database.write(verb)


async def turn(feeder):
    """A round, to where nothing moves any more."""
    await feeder.round()
    await asyncio.gather(*feeder._busy.values())


def echo(messages):
    text = messages[-1]["content"]
    return '{"score": 1}' if text.startswith("judge ") else text


async def answer(world, say=echo, *, state=JobState.COMPLETED, limit=100, key=None):
    """Workers end the jobs that are queued; what they were asked."""

    def verb(session):
        asked = []
        for job in session.scalars(select(Job).where(Job.state == JobState.QUEUED).order_by(Job.id).limit(limit)).all():
            asked.append(job.messages[-1]["content"])
            message = {"role": "assistant", "content": say(job.messages)}
            result = {"completion": {"choices": [{"message": message, "finish_reason": "stop"}]}, "chunks": []}
            jobs.claim(session, job.id, "w", now_ms())
            held = {"result_key": key} if key else {"result": result}
            jobs.finish(session, job.id, 1, Ending(state, now_ms(), prompt_tokens=3, completion_tokens=2, **held))
        return asked

    return await world.database.write(verb)


async def finish(world, feeder, say=echo):
    asked = []
    while more := await answer(world, say):
        asked += more
        await turn(feeder)
    return asked


async def get(world, table=EvalRun, run=RUN):
    return await world.database.read(lambda session: session.get_one(table, run))


async def items(world):
    return await world.database.read(partial(graded_of, run_id=RUN))


async def cancel(world):
    verb = partial(batches.cancel, account_id=world.account, batch_id=RUN, kind=BatchKind.EVAL, now_ms=now_ms())
    await world.database.write(verb)


def counts(run):
    return run.passed, run.failed, run.errored


async def test_answers_are_judged_and_graded_and_the_run_ends_once(world):
    feeder = world.feeder()
    await begin(world, RIGHT, JUDGE)
    await turn(feeder)
    asked = await finish(world, feeder)
    samples = [f"say {n}" for n in range(4)]
    assert sorted(asked) == sorted([*samples, *(f"judge {text}" for text in samples)])
    run, batch = await get(world), await get(world, Batch)
    assert (batch.state, batch.total, batch.completed, counts(run)) == (BatchState.COMPLETED, 8, 8, (4, 0, 0))
    assert [(each["name"], each["passed"], each["score"]) for each in run.criteria] == [
        ("right", 4, 4.0),
        ("judge", 4, 4.0),
    ]
    told = await world.database.read(lambda session: session.scalars(select(Delivery)).all())
    assert [(each.batch_id, each.type) for each in told] == [(RUN, "eval.run.succeeded")]
    tiers = await world.database.read(lambda session: {job.queue for job in session.scalars(select(Job))})
    assert all("flex" in queue for queue in tiers)
    assert await world.database.read(lambda session: session.scalars(select(Conversation)).all()) == []


async def test_what_was_graded_is_seen_while_the_run_goes_on(world):
    feeder = world.feeder()
    await begin(world)
    await turn(feeder)
    for seen in (0, 1, 2):
        await answer(world, limit=1)
        await turn(feeder)
        assert len(await items(world)) == seen
    assert (await get(world, Batch)).state is BatchState.IN_PROGRESS


async def test_rows_that_were_half_made_are_made_anew(world, monkeypatch):
    monkeypatch.setattr(grade, "_SLICE", 2)
    await begin(world, rows=5)
    kind, feeder = Evals(), world.feeder()
    await world.database.write(partial(batch_turns.take, holder=feeder.name, now_ms=now_ms()))
    with monkeypatch.context() as dying:
        dying.setattr(batches, "started", lambda *_, **__: False)
        await kind.prepare(feeder, await get(world, Batch))
    assert (await get(world, Batch)).state is BatchState.VALIDATING
    await kind.prepare(feeder, await get(world, Batch))
    rows = await world.database.read(lambda session: session.scalars(select(BatchRow.number)).all())
    assert (sorted(rows), (await get(world, Batch)).total) == ([0, 1, 2, 3, 4], 5)


async def test_two_feeders_at_once_ask_each_judge_once_and_count_each_item_once(world):
    first, second = world.feeder("a"), world.feeder("b")
    await begin(world, RIGHT, JUDGE, rows=12)
    await turn(first)
    while True:
        await asyncio.gather(first._go_on(RUN), second._go_on(RUN))
        if not await answer(world, limit=5):
            break
    run, batch = await get(world), await get(world, Batch)
    assert (counts(run), batch.total, batch.state) == ((12, 0, 0), 24, BatchState.COMPLETED)


async def test_grading_begun_again_counts_nothing_twice(world):
    feeder, kind = world.feeder(), Evals()
    await begin(world)
    await turn(feeder)
    await answer(world)
    batch = await get(world, Batch)
    await world.database.write(partial(batches.settle, batch_id=RUN, numbers=[0, 1, 2, 3]))
    for _ in range(2):
        assert await kind.conclude(feeder, batch, BatchState.COMPLETED) is None
    assert counts(await get(world)) == (4, 0, 0)


async def test_answers_that_came_along_are_graded_without_a_job(world):
    await begin(world, RIGHT, rows=3, model=None, given={"output_text": "say 1"})
    await turn(world.feeder())
    run, batch = await get(world), await get(world, Batch)
    assert (counts(run), batch.total, batch.state) == ((1, 2, 0), 0, BatchState.COMPLETED)
    assert (run.sampled, run.latency_ms) == (0, 0)


async def test_a_run_in_which_nothing_could_be_graded_has_failed(world):
    feeder = world.feeder()
    await begin(world, RIGHT, JUDGE, rows=2)
    await turn(feeder)
    await finish(
        world, feeder, say=lambda messages: "Hm." if messages[-1]["content"].startswith("judge") else echo(messages)
    )
    run, batch = await get(world), await get(world, Batch)
    assert (batch.state, counts(run), batch.errors[0]["code"]) == (BatchState.FAILED, (0, 0, 2), "no_item_graded")
    assert "'Hm.' is not JSON" in batch.errors[0]["message"], "the criterion that judged has no error"
    told = await world.database.read(lambda session: session.scalars(select(Delivery.type)).all())
    assert told == ["eval.run.failed"]


async def test_a_cancelled_run_asks_no_more_and_grades_no_more(world):
    feeder = world.feeder()
    await begin(world, RIGHT, JUDGE)
    await turn(feeder)
    await answer(world, limit=2)
    await cancel(world)
    await turn(feeder)
    batch = await get(world, Batch)
    assert (batch.state, batch.completed, batch.total) == (BatchState.CANCELLED, 2, 4)
    assert (await answer(world), counts(await get(world))) == ([], (0, 0, 0))


async def test_an_answer_whose_object_is_gone_is_no_answer(world):
    feeder = world.feeder()
    await begin(world, rows=2)
    await turn(feeder)
    await answer(world, limit=1, key="results/gone")
    await answer(world)
    await turn(feeder)
    assert sorted(item.outcome for item in await items(world)) == ["error", "pass"]


async def test_an_answer_in_the_object_store_is_fetched(world):
    message = {"role": "assistant", "content": "say 0"}
    stored = pack({"completion": {"choices": [{"message": message, "finish_reason": "stop"}]}})

    async def get_object(key):
        return stored

    world.objects.get = get_object
    feeder = world.feeder()
    await begin(world, rows=1)
    await turn(feeder)
    await answer(world, key="results/there")
    await turn(feeder)
    assert [item.outcome for item in await items(world)] == ["pass"]


async def test_a_grader_that_breaks_costs_its_item_and_not_the_run(world, monkeypatch, caplog):
    def broken(self, namespace, replies):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(Grader, "grade", broken)
    feeder = world.feeder()
    await begin(world, rows=1)
    await turn(feeder)
    await finish(world, feeder)
    (item,) = await items(world)
    assert item.results[0]["error"] == "the grader broke: ZeroDivisionError"
    assert "could not be graded" in caplog.text


@pytest.mark.parametrize("model", ["tram-demo", None])
async def test_a_grader_that_cannot_ask_costs_its_item_and_not_the_run(world, monkeypatch, caplog, model):
    def broken(self, namespace):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(type(grader_of(JUDGE)), "_questions", broken)
    feeder = world.feeder()
    await begin(world, JUDGE, rows=2, model=model, given={"output_text": "say 0"})
    await turn(feeder)
    await finish(world, feeder)
    assert (await get(world, Batch)).state is BatchState.FAILED
    assert [item.results[0]["error"] for item in await items(world)] == ["the grader broke: ZeroDivisionError"] * 2
    assert "nothing can be asked" in caplog.text


@pytest.fixture
def held(monkeypatch):
    """A grader called `slow` that tells when it is at work, and waits to be let go."""
    at_work, let_go, grade_one = Event(), Event(), Grader.grade

    def slow(self, namespace, replies):
        if self.name == "slow":
            at_work.set()
            assert let_go.wait(LIMIT_S)
        return grade_one(self, namespace, replies)

    monkeypatch.setattr(Grader, "grade", slow)
    yield SimpleNamespace(at_work=at_work, let_go=let_go)
    let_go.set()


async def test_a_run_that_is_being_graded_can_be_cancelled(world, monkeypatch, held):
    monkeypatch.setattr(grade, "_AT_A_TIME_S", 0)
    feeder = world.feeder()
    await begin(world, RIGHT | {"name": "slow"}, model=None, given={"output_text": "say 0"})
    under_way = asyncio.create_task(turn(feeder))
    await asyncio.to_thread(held.at_work.wait, LIMIT_S)
    assert (await get(world, Batch)).state is BatchState.FINALIZING
    await cancel(world)
    held.let_go.set()
    await under_way
    await turn(feeder)
    assert ((await get(world, Batch)).state, counts(await get(world))) == (BatchState.CANCELLED, (1, 0, 0))


async def test_nobody_waits_for_the_graders_of_another(world, held):
    other = await world.database.write(lambda session: accounts.create_account(session, "bob", 1))
    given, feeder = {"output_text": "say 0"}, world.feeder()
    for number in range(9):
        await begin(world, RIGHT | {"name": "slow"}, model=None, given=given, run=f"evalrun_{number}")
    await begin(world, RIGHT, rows=1, model=None, given=given, run="evalrun_other", account=other)
    await feeder.round()
    tasks = dict(feeder._busy)
    async with asyncio.timeout(LIMIT_S):
        await tasks["evalrun_other"]
    assert (await get(world, Batch, "evalrun_other")).state is BatchState.COMPLETED
    assert not tasks["evalrun_0"].done()
    held.let_go.set()
    await asyncio.gather(*tasks.values())


async def test_a_write_holds_no_more_than_it_should(world, monkeypatch):
    written, add = [], batches.add

    def told(session, batch_id, rows):
        written.extend([len(rows)] * bool(rows))
        add(session, batch_id, rows)

    monkeypatch.setattr(batches, "add", told)
    monkeypatch.setattr(grade, "_WRITE_CHARACTERS", 10)  # two of "say 0", and so one of "judge say 0"
    feeder = world.feeder()
    await begin(world, RIGHT, JUDGE, rows=5)
    await turn(feeder)
    assert written == [3, 2]
    asked = await finish(world, feeder)
    assert (len(asked), counts(await get(world)), written[2:]) == (10, (5, 0, 0), [1] * 5)


async def test_judges_who_are_asked_too_much_together_are_an_error(world, monkeypatch):
    monkeypatch.setattr(grade, "_ITEM_CHARACTERS", 150)
    feeder = world.feeder()
    await begin(world, JUDGE, JUDGE | {"name": "another"}, rows=1)
    await turn(feeder)
    assert await finish(world, feeder) == ["say 0", "judge say 0"]
    (item,) = await items(world)
    assert [each["error"] for each in item.results] == [
        None,
        "rendered messages come to more than 150 characters together",
    ]


async def test_the_longest_names_of_judges_rows_fit_their_column(world):
    feeder = world.feeder()
    key = "k" * 200
    await begin(world, {"type": "multi", "name": "m", "calculate_output": key, "graders": {key: JUDGE}}, rows=2)
    await turn(feeder)
    await finish(world, feeder)
    assert counts(await get(world)) == (2, 0, 0)


async def test_of_two_that_make_its_rows_at_once_none_starts_it_with_half(world, monkeypatch):
    """An item without a row would be graded as one that nobody could answer."""
    monkeypatch.setattr(grade, "_SLICE", 2)
    await begin(world)
    first, second = world.feeder("first"), world.feeder("second")
    stopped, cleared, goes_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def halting(feeder, after, told, until):
        async def write(verb):
            came = await world.database.write(verb)
            if getattr(verb, "func", None) in after and not told.is_set():
                told.set()
                await asyncio.wait_for(until.wait(), LIMIT_S)
            return came

        feeder.database = SimpleNamespace(read=world.database.read, write=write)

    halting(first, {batches.add, batch_rows.add}, stopped, cleared)
    halting(second, {batches.clear, batch_rows.clear}, cleared, goes_on)
    await first.round()
    await asyncio.wait_for(stopped.wait(), LIMIT_S)
    later = now_ms() + batch_turns.LEASE_MS + 1
    await world.database.write(partial(batch_turns.take, holder="second", now_ms=later))
    taking = asyncio.create_task(second._go_on(RUN))
    await asyncio.gather(*first._busy.values())
    assert (await get(world, Batch)).state is BatchState.VALIDATING
    goes_on.set()
    await taking
    batch = await get(world, Batch)
    assert (batch.state, batch.total) == (BatchState.IN_PROGRESS, 4)
