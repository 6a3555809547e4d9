"""What a worker says of itself, on a real Redis: while its engine comes and goes, and when it leaves."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from celery import Celery
from redis.asyncio import Redis

from api.stack import worker_command
from infra import fleet
from infra.engine import machine
from infra.engine.client import EngineClient
from infra.engine.server import default_card
from infra.fleet import Totals, Worker
from infra.settings import Settings
from models.cards.card import Card, catalogue
from models.cards.fingerprint import fingerprint
from models.placement import queues_of
from tests.fakes.engine import FakeEngine
from tests.workers.conftest import RedisServer
from workers.presence import Place, Presence, Serving, _Options, gpu_of, place_of, take_options

CARD = default_card("cpu")
NOTHING = Totals()


@asynccontextmanager
async def present(redis: Redis, url: str) -> AsyncIterator[Presence]:
    engine = EngineClient(url, CARD.id)
    await engine.open()
    yield Presence(redis, engine, url, Serving(CARD, joined=True, capacity=7), Place())
    await engine.close()


@pytest.fixture
async def redis(server: RedisServer) -> AsyncIterator[Redis]:
    client = Redis.from_url(server.url)
    yield client
    await client.aclose()


async def shown(redis: Redis) -> list[Worker]:
    return list((await fleet.read(redis)).workers)


async def test_it_says_what_it_serves_and_how_busy_it_is(redis: Redis):
    totals = Totals(jobs=1, prompt_tokens=2)
    async with FakeEngine() as engine, present(redis, engine.url) as presence:
        await presence.show(running=3, totals=totals)
        [told] = await shown(redis)
    assert (told.name, told.card, told.capacity, told.running, told.totals) == (presence.name, CARD.id, 7, 3, totals)
    assert (told.engine.joined, told.engine.ready) == (True, True)
    assert fleet.runs_here(told)
    assert told.version


async def test_it_stays_while_its_engine_is_away(redis: Redis):
    engine = FakeEngine()
    async with engine, present(redis, engine.url) as presence:
        await presence.show(running=0, totals=NOTHING)
        engine.die()
        await presence.show(running=0, totals=NOTHING)
        assert [told.engine.ready for told in await shown(redis)] == [False]
        async with engine:
            await presence.show(running=0, totals=NOTHING)
            assert [told.engine.ready for told in await shown(redis)] == [True]


async def test_the_fingerprint_is_known_before_anything_is_said(redis: Redis):
    async with FakeEngine() as engine, present(redis, engine.url) as presence:
        assert presence.fingerprint == ""
        await presence.learn()
        assert presence.fingerprint == fingerprint(CARD, "unknown", "", {})
        await presence.show(running=0, totals=NOTHING)
        assert [told.fingerprint for told in await shown(redis)] == [presence.fingerprint]


async def test_what_makes_the_answers_is_known_before_anything_is_said(redis: Redis):
    async with FakeEngine() as engine, present(redis, engine.url) as presence:
        assert presence.environment is None
        await presence.learn()
        facts = presence.environment.facts
    assert (facts["card"], facts["engine"], facts["deterministic_inference"]) == (CARD.id, "unknown", None)
    assert not [name for name in facts if name.startswith("flags.")], "it tells of none"


@pytest.mark.engine
async def test_a_joined_sglang_tells_how_it_runs(redis: Redis, engine_url: str):
    async with present(redis, engine_url) as presence:
        await presence.learn()
        known = presence.environment
        await presence.learn()
    facts = known.facts
    assert presence.environment == known, "the same at every look"
    assert (facts["engine"], facts["device"], facts["deterministic_inference"]) == ("sglang", "cpu", False)
    assert (facts["flags.attention-backend"], facts["flags.tp-size"]) == ("torch_native", 1)
    assert "flags.random-seed" not in facts, "drawn at each start"


async def test_an_engine_that_has_gone_again_keeps_its_name(redis: Redis):
    engine = FakeEngine()
    async with engine, present(redis, engine.url) as presence:
        await presence.learn()
        known = presence.fingerprint
        engine.die()
        await presence.learn()
        assert presence.fingerprint == known


def test_the_flags_are_those_of_the_place():
    assert place_of(Serving(CARD, joined=False, capacity=1)).flags == CARD.flags_on("cpu")
    assert place_of(Serving(CARD, joined=False, capacity=1), deterministic=True).flags == CARD.flags_on("cpu")
    assert place_of(Serving(CARD, joined=False, capacity=1)).machine == machine.cpu()
    assert place_of(Serving(CARD, joined=True, capacity=1)) == Place()


async def test_who_leaves_does_not_come_back_by_a_late_renewal(redis: Redis):
    async with FakeEngine() as engine, present(redis, engine.url) as presence:
        await presence.show(running=0, totals=NOTHING)
        await presence.withdraw()
        assert await shown(redis) == []
        await presence.show(running=1, totals=NOTHING)
        assert await shown(redis) == []


async def test_a_redis_that_is_away_costs_nothing_but_the_showing(redis: Redis, server: RedisServer):
    async with FakeEngine() as engine, present(redis, engine.url) as presence:
        server.kill()
        await presence.show(running=0, totals=NOTHING)
        server.start()
        await presence.show(running=0, totals=NOTHING)
        assert len(await shown(redis)) == 1
        server.kill()
        await presence.withdraw()
        server.start()


def test_an_engine_that_needs_no_gpu_is_not_said_to_have_one():
    assert gpu_of(Serving(CARD, joined=False, capacity=1)) == ""
    assert gpu_of(Serving(catalogue()["mistral-small-24b-instruct-2501-awq"], joined=True, capacity=1)) == ""


@pytest.mark.parametrize("card", [*catalogue().values(), CARD.model_copy(update={"id": "tiny", "aliases": ("o/T",)})])
@pytest.mark.parametrize("joined", [False, True])
def test_what_the_command_line_hands_over_arrives(card: Card, joined: bool):
    """Through Celery's own command, whose options these are."""
    command = worker_command(Settings(_env_file=None, concurrency=5), card, joined=joined)
    app = Celery(set_as_current=False)
    take_options(app)
    options = {option.name: option for option in app.user_options["worker"]}
    assert options.keys() == {"card", "joined"}
    said = command[command.index("--card") + 1]
    assert ("--joined" in command) is joined
    assert command[command.index("--queues") + 1].split(",") == queues_of(card.id)

    class Starting:
        concurrency = int(command[command.index("--concurrency") + 1])

    Starting.app = app
    _Options(Starting(), card=said, joined=joined)
    assert app.conf["tram_serving"] == Serving(card, joined, 5)
