"""When so many wait that go first, is a job refused before anything is written, and told when to come back?"""

from dataclasses import replace
from functools import partial

import pytest
from sqlalchemy import func, select
from starlette.requests import Request

from api.acceptance import accept, accept_all
from api.errors import respond
from infra.clock import now_ms
from infra.redis import client
from models import accounts
from models.errors import QueueFull
from models.placement import queue_for, queues_of
from models.tables.jobs import Door, Job

MODEL = "tram-demo"
MOST = 3


@pytest.fixture
async def caller(state):
    account = await state.database.write(partial(accounts.create_account, name="ada", now_ms=now_ms()))
    return await state.database.read(partial(accounts.owner, account_id=account))


@pytest.fixture
async def queues(redis_url):
    """Empty before and after, when the publisher has sent its last."""
    async with client(redis_url) as redis:
        await redis.delete(*queues_of(MODEL))
        yield
        await redis.delete(*queues_of(MODEL))


@pytest.fixture
async def full(queues, state):
    """At MOST; no worker takes anything."""
    await state.redis.rpush(queue_for(MODEL), *range(MOST))
    await state.fleet.refresh()
    return replace(state, settings=state.settings.model_copy(update={"queue_most": MOST}))


def body(**more):
    return {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]} | more


async def count(state):
    return await state.database.read(lambda session: session.scalar(select(func.count()).select_from(Job)))


async def test_a_full_queue_takes_no_more(full, caller):
    with pytest.raises(QueueFull, match="3 jobs wait for 'tram-demo'"):
        await accept(full, caller, body(), Door.JOB)
    with pytest.raises(QueueFull):
        await accept_all(full, caller, [lambda: body(service_tier="priority"), body])
    assert await count(full) == 0


async def test_who_goes_first_is_not_kept_out_by_those_behind(full, caller):
    await accept(full, caller, body(service_tier="priority"), Door.JOB)
    with pytest.raises(QueueFull):
        await accept(full, caller, body(service_tier="flex"), Door.JOB)
    assert await count(full) == 1


async def test_there_is_room_once_one_is_taken_and_who_was_in_is_told_so(full, caller):
    await full.redis.lpop(queue_for(MODEL))
    await full.fleet.refresh()
    made = await accept(full, caller, body(), Door.JOB, "the key")
    await full.redis.rpush(queue_for(MODEL), "one", "more")
    await full.fleet.refresh()
    assert (await accept(full, caller, body(), Door.JOB, "the key")).job_id == made.job_id


def test_a_refusal_says_when_to_come_back():
    request = Request({"type": "http", "path": "/v1/jobs", "headers": []})
    answer = respond(request, QueueFull("full", retry_after_s=7.5))
    assert answer.status_code == 429
    assert (answer.headers["retry-after"], answer.headers["retry-after-ms"]) == ("8", "7500")
