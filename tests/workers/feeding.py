"""A feeder between real Redis and a real database, over a kind of batch of the tests' own; jobs end by the verbs that workers use."""

import asyncio
from functools import partial
from types import SimpleNamespace

import pytest
from sqlalchemy import select

from infra.clock import now_ms
from infra.fleet_view import Fleet
from infra.images import Images
from infra.intake import Intake
from infra.outbound import Outbound
from infra.rate_limiter import let_go
from infra.redis import client
from infra.token_stream import TokenWriter
from models import accounts, batches, jobs, usage
from models.batches import NewBatch, NewRow
from models.handover import Ending
from models.lifecycle import JobState
from models.tables.access import Account
from models.tables.batches import Batch, BatchKind, BatchRow
from models.tables.jobs import Door, Job
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
async def world(database, redis_url):
    """The feeder's: what it writes and sends, and feeders by name."""
    redis = client(redis_url)
    await redis.flushall()
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
    await redis.aclose()


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


async def parallel(world, most):
    await world.database.write(lambda session: setattr(session.get_one(Account, world.account), "parallel", most))
