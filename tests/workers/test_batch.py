"""Does the feeder make jobs of rows in windows, count each once, and end a batch once, whoever dies and whatever a limit says?

A kind of the test's own stands at the outer wall; jobs end by the verbs that workers use.
"""

import asyncio
from functools import partial
from types import SimpleNamespace

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from infra import fleet
from infra.admission import admit
from infra.clock import now_ms
from infra.fleet import Engine, Worker
from infra.fleet_view import Fleet
from infra.images import Images
from infra.intake import Intake
from infra.outbound import Outbound
from infra.rate_limiter import let_go
from infra.redis import ACCOUNT, client
from infra.token_stream import TokenWriter
from models import accounts, batch_turns, batches, jobs, usage
from models.batches import NewBatch, NewRow
from models.cards.card import catalogue
from models.handover import Ending
from models.lifecycle import JobState
from models.tables.access import Account
from models.tables.batches import Batch, BatchKind, BatchRow, BatchState, RowState
from models.tables.jobs import Door, Job
from models.tables.webhooks import Delivery
from workers.batch import Effect, Feeder

BODY = {"model": "tram-demo", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}
HOOK = "http://127.0.0.1:9/hook"


class Numbers:
    """Rows that are numbered; row 0 of a batch that wants it is followed by another."""

    door = Door.BATCH

    async def prepare(self, feeder, batch):
        body = batch.spec.get("body", BODY)
        rows = [NewRow(number, body | {"user": str(number)}) for number in range(batch.spec["rows"])]
        rows += [NewRow(900, None, error={"code": "bad"})] if batch.spec.get("bad") else []

        def verb(session):
            batches.clear(session, batch.id)
            batches.add(session, batch.id, rows)
            batches.started(session, batch.id, now_ms())

        await feeder.database.write(verb)

    async def requests(self, feeder, batch, rows):
        return {row.number: row.body for row in rows if row.number != batch.spec.get("gone")}

    async def consider(self, feeder, batch, settled):
        next_row = (NewRow(1000, BODY),) if batch.spec.get("follow") else ()
        return {each.row.number: Effect({"saw": each.job.id}, next_row) for each in settled if each.row.number == 0}

    async def conclude(self, feeder, batch, state):
        return {"rows": batch.total}

    def event(self, state):
        return f"batch.{state}"


@pytest.fixture
async def redis(redis_url):
    connected = client(redis_url)
    await connected.flushall()
    yield connected
    await connected.aclose()


@pytest.fixture
async def world(database, redis):
    stream, outbound = TokenWriter(redis), Outbound(())
    await stream.open()
    await outbound.open()
    view = Fleet(redis, patient=True)
    sent: list[str] = []
    publisher = SimpleNamespace(publish_soon=lambda task, queue, item: sent.append(item))
    account = await database.write(lambda session: accounts.create_account(session, "ada", 1))

    def feeder(name="f"):
        intake = Intake(database, view, Images(outbound), ())
        return Feeder(name, database, redis, stream, None, publisher, intake, {BatchKind.FILE: Numbers()})

    yield SimpleNamespace(database=database, redis=redis, account=account, sent=sent, feeder=feeder)
    await outbound.close()
    await stream.close()


async def begin(world, name="batch_1", **spec):
    hook = spec.pop("hook", None)
    expires = spec.pop("expires_ms", None)
    new = NewBatch(name, world.account, BatchKind.FILE, spec, now_ms(), webhook_url=hook, expires_ms=expires)
    await world.database.write(partial(batches.begin, batch=new))
    return name


async def turn(feeder):
    """A round, to where nothing moves any more."""
    await feeder.round()
    await asyncio.gather(*feeder._busy.values())


async def get(world, name="batch_1"):
    return await world.database.read(lambda session: session.get_one(Batch, name))


async def rows(world, name="batch_1"):
    query = select(BatchRow).where(BatchRow.batch_id == name).order_by(BatchRow.number)
    return await world.database.read(lambda session: session.scalars(query).all())


async def answer(world, *, state=JobState.COMPLETED, limit=10_000):
    """Workers end the jobs that are queued; how many."""

    def verb(session):
        names = session.scalars(select(Job.id).where(Job.state == JobState.QUEUED).limit(limit)).all()
        for name in names:
            claimed = jobs.claim(session, name, "w", now_ms())
            jobs.finish(session, name, claimed.attempt, Ending(state, now_ms(), prompt_tokens=3, completion_tokens=2))
        return names

    names = await world.database.write(verb)
    settled, _ = await world.database.read(partial(usage.ended, ids=names))
    for each in settled:
        await let_go(world.redis, each)
    return len(names)


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


async def test_a_limit_makes_rows_wait_and_fails_none(world):
    await parallel(world, 3)
    feeder = world.feeder()
    await begin(world, rows=7)
    await turn(feeder)
    sizes = []
    while left := await answer(world):
        sizes.append(left)
        await turn(feeder)
    assert sizes == [3, 3, 1]
    assert (await get(world)).completed == 7


async def test_no_row_is_admitted_before_all_are_prepared(world):
    """Else the first ones' places are taken for those of jobs that were never made, and are given away again."""

    class Slow:
        """While it brings a row's images, so much time passes that whatever is held is doubted."""

        async def prepare(self, *request):
            job = await prompt.prepare(*request)
            for admitted in await world.redis.zrange(f"{ACCOUNT}{world.account}:open", 0, -1):
                await world.redis.zadd(f"{ACCOUNT}{world.account}:open", {admitted: 1})
            return job

    await parallel(world, 3)
    feeder = world.feeder()
    prompt, feeder.intake = feeder.intake, Slow()
    await begin(world, rows=20)
    await turn(feeder)
    assert await answer(world) == 3


async def test_a_place_is_given_back_that_another_feeder_s_job_has_no_need_of(world):
    await parallel(world, 2)
    first, second = world.feeder("a"), world.feeder("b")
    await begin(world, rows=2)
    prompt = first.intake

    class Late:
        """By the time it has prepared a row, the other feeder has fed it, and it has been answered."""

        async def prepare(self, *request):
            job = await prompt.prepare(*request)
            if not await world.database.read(partial(batches.running, batch_id="batch_1")):
                await second._go_on("batch_1")
                await answer(world)
            return job

    first.intake = Late()
    await turn(first)
    assert await world.redis.zcard(f"{ACCOUNT}{world.account}:open") == 0


async def test_jobs_that_were_made_unheard_keep_their_places_and_are_published(world, monkeypatch):
    """The commit has happened; the connection broke before that was heard, and the verb runs again."""
    commit, lost = world.database._commit, []

    def lossy(batch):
        told = commit(batch)
        if not lost and any(getattr(write.verb, "func", None) is batches.feed for write in batch):
            lost.append(told)
            raise OperationalError("COMMIT", {}, Exception("lost"), connection_invalidated=True)
        return told

    monkeypatch.setattr(world.database, "_commit", lossy)
    await parallel(world, 3)
    await begin(world, rows=2)
    await turn(world.feeder())
    assert lost
    assert await world.redis.zcard(f"{ACCOUNT}{world.account}:open") == len(world.sent) == await answer(world) == 2


async def test_of_rows_that_wait_for_a_limit_one_at_a_time_is_prepared(world):
    await parallel(world, 2)
    feeder = world.feeder()
    await begin(world, rows=30)
    await turn(feeder)
    prompt, seen = feeder.intake, []

    class Counting:
        async def prepare(self, *request):
            seen.append(request)
            return await prompt.prepare(*request)

    feeder.intake = Counting()
    await turn(feeder)
    assert len(seen) == 1
    await parallel(world, None)
    await turn(feeder)
    assert (await get(world)).failed == 0
    assert len(seen) == 1 + 28, "as many as it can take, once nothing stands in the way"


async def parallel(world, most):
    await world.database.write(lambda session: setattr(session.get_one(Account, world.account), "parallel", most))


async def test_a_row_that_nobody_can_pay_for_fails_whatever_runs(world):
    feeder = world.feeder()
    await pays(world, 1000)
    await chats(world, feeder, 500)
    await begin(world, rows=2, body=priced(4000))
    await turn(feeder)
    assert [row.error["code"] for row in await rows(world)] == ["insufficient_credits"] * 2
    assert (await get(world)).state is BatchState.COMPLETED


async def test_rows_wait_for_money_that_other_jobs_hold(world):
    feeder = world.feeder()
    await pays(world, 3000)
    await chats(world, feeder, 3000)
    await begin(world, rows=3, body=priced(3000))
    await turn(feeder)
    assert {row.state for row in await rows(world)} == {RowState.WAITING}
    sizes = []
    while left := await answer(world):
        sizes.append(left)
        await turn(feeder)
    assert sizes == [1, 1, 1, 1], "the chat, and then one row after the other"
    batch = await get(world)
    assert (batch.state, batch.completed, batch.failed) == (BatchState.COMPLETED, 3, 0)


def priced(max_tokens):
    """A request to a model whose prompt tokens cost 0.35, and the answer's 0.55, micro-dollars each."""
    return BODY | {"model": "mistral-small-24b-instruct-2501-awq", "max_tokens": max_tokens}


async def pays(world, micros):
    await world.database.write(
        lambda session: setattr(session.get_one(Account, world.account), "credit_micros", micros)
    )


async def chats(world, feeder, max_tokens):
    """Somebody with the account's key has a job open."""
    caller = await world.database.read(partial(accounts.owner, account_id=world.account))
    job = await feeder.intake.prepare(caller, priced(max_tokens), Door.JOB)
    made = await admit(world.database, world.redis, caller, [job], lambda _: None)
    await world.database.write(partial(jobs.submit, jobs=made))


@pytest.mark.parametrize("model", ["qwen-72b", None])
async def test_rows_wait_until_workers_have_said_what_they_serve(world, model):
    """Redis came up empty with this process, and the worker of the joined engine is still to come."""
    feeder = world.feeder()
    await begin(world, rows=3, body=BODY | {"model": model})
    await turn(feeder)
    assert {row.state for row in await rows(world)} == {RowState.WAITING}
    await announced(world, "qwen-72b")
    await turn(feeder)
    made = await world.database.read(lambda session: session.scalars(select(Job.card)).all())
    assert made == ["qwen-72b"] * 3


async def test_rows_for_a_model_that_no_worker_speaks_of_fail(world):
    feeder = world.feeder()
    await announced(world, "qwen-72b")
    await feeder.intake.fleet.refresh()
    feeder.intake.fleet._early_until_s = 0.0  # workers have had their time
    await begin(world, rows=3, body=BODY | {"model": "qwen-27b"})
    await turn(feeder)
    assert [row.error["code"] for row in await rows(world)] == ["model_not_found"] * 3


async def announced(world, card_id):
    card = catalogue()["tram-demo"].model_copy(update={"id": card_id, "aliases": ()})
    facts = {"host": "here", "pid": 1, "capacity": 8, "version": "0", "since": 1.0}
    await fleet.announce(world.redis, Worker(name="w", card=card_id, engine=Engine(joined=True), **facts), card)


async def test_a_row_that_is_no_request_fails_with_its_reason(world):
    feeder = world.feeder()
    await begin(world, rows=1)
    await world.database.write(partial(batches.add, batch_id="batch_1", rows=()))

    def bad(session):
        batches.add(session, "batch_1", [NewRow(5, {"model": "nobody", "messages": []})])
        batches.started(session, "batch_1", now_ms())

    await world.database.write(bad)
    await turn(feeder)
    (row,) = await rows(world)
    assert (row.state, row.error["kind"]) == (RowState.FAILED, "InvalidRequest")


async def test_a_row_over_which_our_own_code_breaks_holds_up_no_other(world):
    """It would break over it the next time, too."""

    class Breaking:
        async def prepare(self, caller, body, *more):
            return await prompt.prepare(caller, body, *more) if body["user"] != "1" else {}["no such thing"]

    feeder = world.feeder()
    prompt, feeder.intake = feeder.intake, Breaking()
    await begin(world, rows=3)
    await turn(feeder)
    assert await answer(world) == 2
    await turn(feeder)
    assert [row.error and row.error["code"] for row in await rows(world)] == [None, "server_error", None]
    assert (await get(world)).state is BatchState.COMPLETED
