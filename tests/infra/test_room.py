"""Who goes first counts, and the wait is what the workers need to end so many jobs."""

import pytest

from infra.fleet import Engine, Totals, Worker
from infra.room import WINDOW_S, Room
from models.errors import QueueFull
from models.limits import RETRY_MOST_S
from models.placement import Tier, queue_for

CARD = "tram-demo"


def worker(name, ended, card=CARD):
    told = {"host": "here", "pid": 1, "capacity": 8, "engine": Engine(joined=False), "version": "0", "since": 1.0}
    return Worker(name=name, card=card, totals=Totals(jobs=ended), **told)


def waiting(**tiers):
    return {queue_for(CARD, Tier(tier)): count for tier, count in tiers.items()}


def refusal(room, tier=Tier.DEFAULT, most=100):
    with pytest.raises(QueueFull) as caught:
        room.require(CARD, queue_for(CARD, tier), most)
    return caught.value


def test_there_is_room_before_anything_is_known():
    Room().require(CARD, queue_for(CARD), 1)


@pytest.mark.parametrize(
    ("counts", "kept_out"),
    [
        ({"default": 99}, set()),
        ({"default": 100}, {Tier.DEFAULT, Tier.FLEX}),
        ({"flex": 100}, {Tier.FLEX}),
        ({"priority": 100}, set(Tier)),
        ({"priority": 40, "default": 40, "flex": 20}, {Tier.FLEX}),
    ],
)
def test_those_that_go_first_are_counted(counts, kept_out):
    room = Room()
    room.note(waiting(**counts), [], 0.0)
    for tier in kept_out:
        refusal(room, tier)
    for tier in set(Tier) - kept_out:
        room.require(CARD, queue_for(CARD, tier), 100)


@pytest.mark.parametrize(("ahead", "wait_s"), [(100, 1.0), (129, 3.0), (1099, 100.0), (5000, RETRY_MOST_S)])
def test_the_wait_is_as_long_as_the_workers_take(ahead, wait_s):
    """Ten jobs a second: six of one that was there at first, four of one that came; another model's help nobody here."""
    room = Room()
    room.note(waiting(default=ahead), [worker("a", 1000), worker("other", 0, "another")], 100.0)
    room.note(waiting(default=ahead), [worker("a", 1060), worker("b", 7), worker("other", 500, "another")], 110.0)
    room.note(waiting(default=ahead), [worker("a", 1120), worker("b", 47), worker("other", 999, "another")], 120.0)
    assert refusal(room).retry_after_s == pytest.approx(wait_s)


def test_it_is_the_last_minute_that_counts():
    room = Room()
    for second in range(200):
        room.note(waiting(default=100), [worker("a", min(second, 100) * 50)], float(second))
        assert len(room._looks) <= WINDOW_S + 1
    assert refusal(room).retry_after_s == RETRY_MOST_S


@pytest.mark.parametrize("workers", [[], [worker("a", 10)]])
def test_who_knows_no_pace_says_the_longest_wait(workers):
    room = Room()
    room.note(waiting(default=100), workers, 1.0)
    assert refusal(room).retry_after_s == RETRY_MOST_S
