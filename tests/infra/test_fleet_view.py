"""What does a process make of the workers it is told of?  And what while nobody tells it anything?"""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from infra import fleet
from infra import fleet_view as views
from infra import redis as redis_keys
from infra.fleet import Engine, Worker
from infra.fleet_view import Fleet, view_of
from infra.redis import MARK
from models.cards.card import Card, catalogue
from models.errors import NotFound, QueueFull, Unavailable
from models.placement import queue_for

DEMO, LARGE = catalogue()["tram-demo"], catalogue()["mistral-small-24b-instruct-2501-awq"]


def joined(card_id: str, *aliases: str) -> Card:
    return DEMO.model_copy(update={"id": card_id, "aliases": aliases})


def worker(card: Card, name: str = "a", **given: int) -> Worker:
    told = {"host": "here", "pid": 1, "capacity": 8, "engine": Engine(joined=False), "version": "0", "since": 1.0}
    return Worker(name=name, card=card.id, **told | given)


def served(*cards: Card) -> dict[str, Card]:
    return {card.id: card for card in cards}


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A database of the test's own: the shared API process looks into another."""
    client = redis_keys.client(f"{redis_url}?db=7")
    await client.flushdb()
    await client.set(MARK, "1")
    yield client
    await client.aclose()


@pytest.fixture
async def known(redis: Redis) -> Fleet:
    fresh = Fleet(redis)
    await fresh.refresh()
    return fresh


def test_workers_are_counted_by_the_card_they_serve():
    view = view_of([worker(DEMO), worker(LARGE, "c"), worker(LARGE, "b")], served(DEMO, LARGE))
    assert {card_id: [each.name for each in found] for card_id, found in view.live.items()} == {
        LARGE.id: ["b", "c"],
        DEMO.id: ["a"],
    }
    assert [each.name for each in view.workers] == ["b", "c", "a"]


def test_who_names_no_model_gets_the_catalogue_s_first_of_those_that_are_served():
    tiny = joined("a-tiny")
    assert view_of([worker(tiny), worker(DEMO)], served(tiny, DEMO, LARGE)).first == DEMO
    assert view_of([worker(tiny)], served(tiny, LARGE)).first == tiny
    assert view_of([], served(tiny, LARGE)).first == LARGE, "what was served lately may be served again"
    assert view_of([], {}).first is None


def test_a_joined_engine_s_card_is_found_by_all_its_names_also_when_it_is_away():
    tiny = joined("tiny", "org/Tiny")
    for workers in ([worker(tiny)], []):
        view = view_of(workers, served(tiny))
        assert {name: card.id for name, card in view.names.items()} == dict.fromkeys(
            ["tiny", "org/Tiny", "org-Tiny"], "tiny"
        )
        assert list(view.cards) == [*catalogue(), "tiny"]


def test_a_name_that_the_catalogue_has_too_is_the_joined_one_s_while_it_is_served():
    other = joined("other", DEMO.id)
    assert view_of([worker(other)], served(other)).names[DEMO.id] == other
    assert DEMO.id not in view_of([], served(other)).names


def test_of_two_joined_ones_with_one_name_the_served_one_has_it():
    one, two = joined("one", "org/both"), joined("two", "org/both")
    for present in (one, two):
        assert view_of([worker(present)], served(one, two)).names["org/both"] == present


def test_a_worker_of_a_card_that_cannot_be_read_is_not_counted_on():
    assert view_of([worker(joined("odd"))], {}).live == {}


async def test_the_last_view_stands_while_redis_is_away(known: Fleet, redis: Redis):
    await fleet.announce(redis, worker(DEMO), DEMO)
    await known.refresh()
    known._redis = Redis(port=1)
    await known.refresh()
    assert DEMO.id in known.view.live
    await known._redis.aclose()


async def test_a_redis_that_says_nothing_is_not_waited_for(known: Fleet, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(views, "BOUND_S", 0.05)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        known._redis = Redis(port=deaf.getsockname()[1])
        async with asyncio.timeout(5):
            await known.refresh()
        await known._redis.aclose()


async def test_a_redis_that_has_lost_everything_is_doubted_for_a_while(known: Fleet, redis: Redis):
    for name in ("here", "there"):
        await fleet.announce(redis, worker(DEMO, name), DEMO)
    await known.refresh()
    await redis.flushdb()
    await redis.set(MARK, "2")
    await fleet.announce(redis, worker(DEMO, "here", running=3), DEMO)
    await known.refresh()
    assert [(each.name, each.running) for each in known.view.workers] == [("here", 3), ("there", 0)]
    known._doubt_until_s = 0.0
    await known.refresh()
    assert [each.name for each in known.view.workers] == ["here"]


async def test_what_is_lost_before_it_had_a_mark_is_doubted_too(known: Fleet, redis: Redis):
    """Redis may lose all in the first second, before upkeep has marked it."""
    await fleet.announce(redis, worker(DEMO, "there"), DEMO)
    await known.refresh()
    await redis.flushdb()
    await known.refresh()
    assert [each.name for each in known.view.workers] == ["there"]


async def test_one_that_leaves_is_gone_and_its_card_stays_known(known: Fleet, redis: Redis):
    tiny = joined("tiny")
    await fleet.announce(redis, worker(tiny), tiny)
    await known.refresh()
    assert "tiny" in known.view.live
    known._doubt_until_s = 0.0
    await fleet.withdraw(redis, worker(tiny).name)
    await known.refresh()
    assert (known.view.live, known.view.first, known.view.names["tiny"]) == ({}, tiny, tiny)


async def test_a_patient_one_says_nothing_of_a_name_before_workers_have_had_the_time_to_speak(redis: Redis):
    patient, tiny = Fleet(redis, spare=LARGE, patient=True), joined("tiny")
    assert await patient.card(LARGE.id) == LARGE, "what the catalogue has needs nobody's word"
    for name in ("tiny", None):
        with pytest.raises(Unavailable):
            await patient.card(name)
    await fleet.announce(redis, worker(DEMO), DEMO)
    assert await patient.card(None) == DEMO
    with pytest.raises(Unavailable):
        await patient.card("tiny")  # its worker may be the second
    await fleet.announce(redis, worker(tiny, "b"), tiny)
    assert await patient.card("tiny") == tiny
    with pytest.raises(Unavailable):
        await patient.card("nobody's")
    patient._early_until_s = 0.0
    with pytest.raises(NotFound):
        await patient.card("nobody's")


async def test_a_patient_one_says_nothing_while_redis_has_never_been_there():
    gone = Redis(port=1)
    with pytest.raises(Unavailable):
        await Fleet(gone, patient=True).card("tiny")
    with pytest.raises(NotFound):
        await Fleet(gone).card("tiny")  # whoever holds the line is told at once
    await gone.aclose()


async def test_who_waits_for_a_reading_shares_one_that_begins_after_he_came(known: Fleet, redis: Redis):
    async with known._turn:  # as one holds it that began before
        waiting = [asyncio.create_task(known.refresh()) for _ in range(50)]
        await asyncio.sleep(0)
        await fleet.announce(redis, worker(DEMO), DEMO)
        before = (await redis.info("commandstats"))["cmdstat_sort"]["calls"]
    await asyncio.gather(*waiting)
    assert DEMO.id in known.view.live
    assert (await redis.info("commandstats"))["cmdstat_sort"]["calls"] - before == 2, "one of workers, one of cards"


async def test_it_follows_by_itself(known: Fleet, redis: Redis, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(views, "REFRESH_S", 0.01)
    read, enough = known.refresh, asyncio.Event()

    async def refresh() -> None:
        await read()
        if known.view.live:
            enough.set()

    monkeypatch.setattr(known, "refresh", refresh)
    await known.open()
    await fleet.announce(redis, worker(DEMO), DEMO)
    async with asyncio.timeout(5):
        await enough.wait()
    await known.close()


async def test_a_full_queue_is_seen_with_the_next_look_and_nobody_is_refused_unseen(redis: Redis) -> None:
    queue = queue_for(DEMO.id)
    fresh = Fleet(redis)
    await redis.rpush(queue, "one", "two")
    fresh.require_room(DEMO.id, queue, 2)
    await fresh.refresh()
    with pytest.raises(QueueFull):
        fresh.require_room(DEMO.id, queue, 2)
    fresh.require_room(DEMO.id, queue, 3)
    nowhere = redis_keys.client("unix:///nowhere")
    fresh._redis = nowhere
    await fresh.refresh()
    fresh.require_room(DEMO.id, queue, 2)
    await nowhere.aclose()
