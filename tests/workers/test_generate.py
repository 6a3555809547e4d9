"""What becomes of a job between its message and its end, in a node on real stores and the scriptable engine?"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from infra import stores
from infra.clock import now_ms
from infra.engine.client import EngineClient
from infra.engine.server import default_card
from infra.redis import CANCEL_CHANNEL
from models import accounts, ids, jobs
from models.handover import NewJob, Renewed
from models.lifecycle import JobState
from models.tables.jobs import Door, Job
from tests.fakes.engine import ROUTES, FakeEngine, Script
from tests.flow.engine import tokens
from workers.gate import Gate
from workers.generate import generate
from workers.node import Node, Stop, watched
from workers.presence import Place, Presence, Serving

QUEUE = "chat.test"
WITHIN_S = 30.0


@dataclass(frozen=True)
class World:
    node: Node
    engine: FakeEngine
    account: str

    async def submit(self, script: str) -> str:
        new = NewJob(
            id=ids.new("job"),
            account_id=self.account,
            door=Door.JOB,
            model="m",
            card="c",
            queue=QUEUE,
            created_ms=now_ms(),
            parameters={},
            messages=[{"role": "user", "content": f"!{script}"}],
            chain=["0123456789abcdef"],
        )
        await self.node.database.write(partial(jobs.submit, jobs=[new]))
        return new.id

    async def job(self, job_id: str) -> Job:
        return await self.node.database.read(lambda session: session.get_one(Job, job_id))

    async def waiting(self) -> int:
        """Messages in the queue, once all that was published has arrived."""
        await asyncio.to_thread(self.node.publisher.close)
        return await self.node.redis.llen(QUEUE)

    async def heard(self, job_id: str) -> None:
        """A wish to stop it is published, and the node has heard of it."""
        later, told = ids.new("job"), asyncio.get_running_loop().create_future()
        self.node.hold(later, 1, told.set_result)
        while not await self.node.redis.publish(CANCEL_CHANNEL, job_id):
            pass  # nobody listens yet
        await self.node.redis.publish(CANCEL_CHANNEL, later)
        assert await asyncio.wait_for(told, WITHIN_S) is Stop.CANCELLED
        del self.node.running[later]


@pytest.fixture
async def world(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        objects_url = f"file:{tmp_path / 'objects'}"
        held = await stack.enter_async_context(
            stores.opened(database_url=database_url, redis_url=redis_url, objects_url=objects_url)
        )
        await held.redis.flushall()
        fake = await stack.enter_async_context(FakeEngine())
        engine, gate = EngineClient(fake.url, "tiny"), Gate()
        await engine.open()
        stack.push_async_callback(engine.close)
        stack.callback(gate.close)
        presence = Presence(
            held.redis, engine, fake.url, Serving(default_card("cpu"), joined=True, capacity=7), Place()
        )
        node = Node(held.database, held.redis, held.stream, held.objects, engine, held.publisher, presence, gate)
        account = await held.database.write(lambda session: accounts.create_account(session, "ada", 1))
        await stack.enter_async_context(watched(node))
        yield World(node, fake, account)


async def test_a_message_that_came_while_the_engine_is_away_goes_back(world: World):
    world.engine.die()
    world.node.engine_lost()
    job_id, ended = await world.submit("tokens=3"), await world.submit("tokens=3")
    await world.node.database.write(partial(jobs.cancel, account_id=world.account, job_id=ended, now_ms=now_ms()))
    for each in (job_id, ended):
        await generate(world.node, each)
    assert (await world.job(job_id)).state is JobState.QUEUED
    assert await world.waiting() == 1, "of the one that has ended nobody need hear"


async def test_a_wish_that_came_before_the_attempt_had_begun_stops_it(world: World):
    """Between the claim and the attempt: the row says `in_progress`, and nobody runs yet who could be told."""
    world.node.gate.open()
    job_id = await world.submit("hang")
    await world.heard(job_id)
    await asyncio.wait_for(generate(world.node, job_id), WITHIN_S)
    assert (await world.job(job_id)).state is JobState.CANCELLED
    assert world.engine.seen == 0


async def test_wishes_are_not_remembered_for_long(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("workers.node.HEARD_S", 0.0)
    world.node.gate.open()
    job_id = await world.submit("tokens=3")
    for _ in range(9):
        await world.heard(job_id)
    assert len(world.node._heard) == 1
    await generate(world.node, job_id)
    assert (await world.job(job_id)).state is JobState.COMPLETED


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.attempt._BUSY_PAUSES_S", (0.0,))


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_who_refuses_for_now_is_asked_again(world: World, no_pauses: None, status: int):
    world.node.gate.open()
    world.engine.script = Script(status=status)
    job_id = await world.submit("")
    running = asyncio.create_task(generate(world.node, job_id))
    await world.engine.until(lambda: world.engine.seen == 3)
    world.engine.script = Script(tokens=3)
    await asyncio.wait_for(running, WITHIN_S)
    job = await world.job(job_id)
    assert (job.state, job.attempt, job.completion_tokens) == (JobState.COMPLETED, 1, 3)


async def test_who_refuses_for_good_is_not_asked_for_ever(
    world: World, no_pauses: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("workers.attempt.REFUSED_S", 0.0)
    world.node.gate.open()
    job_id = await world.submit("status=429")
    for attempt in range(2, jobs.MAX_ATTEMPTS + 1):
        await generate(world.node, job_id)
        job = await world.job(job_id)
        assert (job.state, job.attempt) == (JobState.QUEUED, attempt)
    await generate(world.node, job_id)
    job = await world.job(job_id)
    assert (job.state, job.error["code"], world.engine.seen) == (JobState.FAILED, "saturated", jobs.MAX_ATTEMPTS)
    assert await world.waiting() == jobs.MAX_ATTEMPTS - 1


async def test_a_gateway_without_its_engine_gives_the_job_back(world: World, monkeypatch: pytest.MonkeyPatch):
    world.node.gate.open()
    await world.node.engine.is_sglang()
    for path in ("/ready", "/v1/models"):
        monkeypatch.setitem(ROUTES, ("GET", path), lambda _, link, *__: link.reply(502))
    job_id = await world.submit("status=502")
    await generate(world.node, job_id)
    assert (await world.job(job_id)).state is JobState.QUEUED
    assert not world.node.gate.is_open


async def test_a_refusal_in_the_middle_of_an_answer_is_no_reason_to_say_it_twice(world: World, no_pauses: None):
    world.node.gate.open()
    world.engine.script = Script(tokens=6, fail_after=4, error_event=True)
    job_id = await world.submit("")
    await generate(world.node, job_id)
    assert (await world.job(job_id)).attempt == 2
    world.engine.script = Script(tokens=6)  # of the four perhaps none had left the worker yet
    await generate(world.node, job_id)
    job = await world.job(job_id)
    assert (job.state, job.completion_tokens) == (JobState.COMPLETED, 6)
    assert job.result["completion"]["choices"][0]["message"]["content"] == tokens(6)


@pytest.fixture
async def renewals(monkeypatch: pytest.MonkeyPatch) -> "asyncio.Queue[list[str] | None]":
    """What each renewal of leases has come to, a moment after the other: the jobs, or None where the database took none."""
    told: asyncio.Queue[list[str] | None] = asyncio.Queue()
    renew, loop = jobs.renew, asyncio.get_running_loop()

    def noted(session: Session, **asked: Any) -> list[Renewed]:
        found = None
        try:
            found = renew(session, **asked)
        finally:
            loop.call_soon_threadsafe(told.put_nowait, None if found is None else [each.id for each in found])
        return found

    monkeypatch.setattr(jobs, "renew", noted)
    monkeypatch.setattr("workers.node.RENEW_S", 0.02)
    monkeypatch.setattr("workers.node._RECONNECT_S", 0.02)
    return told


async def test_leases_are_renewed_again_whatever_the_database_said(renewals, world: World):
    """Of a full disk, or of a server that may only be read, it says so in words that are no outage's."""
    world.node.gate.open()
    job_id = await world.submit("hang")
    running = asyncio.create_task(generate(world.node, job_id))
    await world.engine.until(lambda: world.engine.seen == 1)
    await world.node.database.write(lambda session: session.execute(text("ALTER TABLE jobs RENAME TO jobs_away")))
    try:
        while await asyncio.wait_for(renewals.get(), WITHIN_S) is not None:
            pass
    finally:
        await world.node.database.write(lambda session: session.execute(text("ALTER TABLE jobs_away RENAME TO jobs")))
    while await asyncio.wait_for(renewals.get(), WITHIN_S) != [job_id]:
        pass
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
