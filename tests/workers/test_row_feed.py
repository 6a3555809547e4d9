"""Do a batch's rows become jobs as the account's limits let them, and fail where no limit ever will?"""

from functools import partial

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from infra import fleet
from infra.admission import admit
from infra.clock import now_ms
from infra.fleet import Engine, Worker
from infra.redis import ACCOUNT
from models import accounts, batches, jobs
from models.batches import NewRow
from models.cards.card import catalogue
from models.tables.access import Account
from models.tables.batches import BatchState, RowState
from models.tables.jobs import Door, Job
from tests.workers import feeding
from tests.workers.feeding import BODY, answer, begin, get, parallel, rows, turn

world = feeding.world


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
