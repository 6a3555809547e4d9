"""Who is there is known in one round trip, who is gone is forgotten, and what was served is remembered."""

import os
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from redis.asyncio import Redis

from infra import fleet
from infra.engine.server import default_card
from infra.fleet import ANNOUNCED_S, CARD_S, Engine, Totals, Worker
from infra.redis import CARD, CARDS, MARK, WORKER, WORKERS, client
from infra.redis_server import find_server

OURS = default_card("cpu")
JOINED = OURS.model_copy(update={"id": "tiny", "aliases": ("org/Tiny",), "description": "in no catalogue"})


@pytest.fixture
def address() -> Iterator[str]:
    """Of a server of the test's own."""
    with tempfile.TemporaryDirectory() as home:
        where = ("--port", "0", "--unixsocket", f"{home}/r.sock", "--dir", home, "--save", "")
        with subprocess.Popen([find_server(), *where], stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            assert any(b"Ready to accept" in line for line in server.stdout)
            yield f"unix://{home}/r.sock"
            server.kill()


@pytest.fixture
async def redis(address: str) -> AsyncIterator[Redis]:
    connection = client(address)
    yield connection
    await connection.aclose()


def worker(name: str = "here-1-abcdefgh", card: str = OURS.id, **given: Any) -> Worker:
    told = {"host": "here", "pid": 1, "capacity": 8, "engine": Engine(joined=False), "version": "0", "since": 1.0}
    return Worker(name=name, card=card, **told | given)


async def test_what_is_announced_is_read(redis: Redis) -> None:
    totals = Totals(jobs=2, prompt_tokens=30, cached_tokens=20, completion_tokens=7)
    engine = Engine(joined=True, ready=True, name="sglang", version="0.5.23")
    first, second = (
        worker(running=3, totals=totals, engine=engine, gpu="NVIDIA H200"),
        worker("there-2-abcdefgh", "tiny"),
    )
    await fleet.announce(redis, first, OURS)
    await fleet.announce(redis, second, JOINED)
    told = await fleet.read(redis)
    assert sorted(told.workers, key=lambda each: each.name) == [first, second]
    assert {card.id: card for card in told.cards} == {OURS.id: OURS, "tiny": JOINED}


async def test_reading_is_one_round_trip(redis: Redis) -> None:
    for number in range(20):
        await fleet.announce(redis, worker(f"here-{number}-abcdefgh"), OURS)
    before = await redis.info("commandstats")
    assert len((await fleet.read(redis)).workers) == 20
    after = await redis.info("commandstats")
    asked = {name: after[name]["calls"] - before.get(name, {"calls": 0})["calls"] for name in after}
    assert {name: calls for name, calls in asked.items() if calls and "info" not in name} == {
        "cmdstat_get": 1,
        "cmdstat_sort": 2,
    }


async def test_a_worker_that_is_silent_is_forgotten_and_its_card_is_not(redis: Redis) -> None:
    await fleet.announce(redis, worker(), JOINED)
    assert 0 < await redis.ttl(WORKER + worker().name) <= ANNOUNCED_S
    for key in (WORKERS, CARDS, CARD + JOINED.id):
        assert ANNOUNCED_S < await redis.ttl(key) <= CARD_S
    await redis.delete(WORKER + worker().name)  # as its time to live does
    told = await fleet.read(redis)
    assert (told.workers, [card.id for card in told.cards]) == ((), ["tiny"])
    assert await redis.smembers(WORKERS) == set()


async def test_one_that_leaves_is_gone_at_once_and_alone(redis: Redis) -> None:
    await fleet.announce(redis, worker(), OURS)
    await fleet.announce(redis, worker("there-2-abcdefgh"), OURS)
    await fleet.withdraw(redis, worker().name)
    assert [each.name for each in (await fleet.read(redis)).workers] == ["there-2-abcdefgh"]


async def test_the_catalogue_s_own_card_is_the_one_that_holds(redis: Redis) -> None:
    await fleet.announce(redis, worker(), OURS.model_copy(update={"description": "of another release"}))
    assert (await fleet.read(redis)).cards == (OURS,)


async def test_what_another_release_wrote_is_passed_over(redis: Redis) -> None:
    await fleet.announce(redis, worker(), OURS)
    await redis.set(WORKER + "odd", '{"since": 1}')
    await redis.sadd(WORKERS, "odd")
    await redis.set(CARD + "odd", '{"id": "odd"}')
    await redis.sadd(CARDS, "odd")
    told = await fleet.read(redis)
    assert ([each.name for each in told.workers], told.cards) == ([worker().name], (OURS,))


async def test_the_mark_tells_whether_redis_has_lost_everything(redis: Redis) -> None:
    assert (await fleet.read(redis)).mark is None
    await redis.set(MARK, "a")
    assert (await fleet.read(redis)).mark == b"a"


def test_a_process_of_this_host_is_told_from_others() -> None:
    here = socket.gethostname()
    ended = subprocess.Popen(["true"])
    ended.wait(10)
    assert fleet.runs_here(worker(host=here, pid=os.getpid()))
    assert not fleet.runs_here(worker(host=here, pid=ended.pid))
    assert not fleet.runs_here(worker(host=f"not-{here}", pid=os.getpid()))


def test_totals_add_up() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}
    assert Totals().plus(usage).plus(usage) == Totals(jobs=2, prompt_tokens=20, cached_tokens=8, completion_tokens=6)
