"""A recorded answer is told again in time: no chunk early, none lost, few wake-ups, and a way to ask for more speed."""

import asyncio
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.pace import STEP_S, _due_s, _parts, paced, speed_of
from infra.token_stream import Entry
from models.errors import InvalidRequest

WAITED_MS = 5_000


def entry(count: int, first: int = 1) -> Entry:
    return Entry(1, first, [b"%d" % number for number in range(first, first + count)], b"end")


async def told(*arguments) -> list[tuple[float, Entry]]:
    start = time.monotonic()
    return [(time.monotonic() - start, part) async for part in paced(*arguments) if part is not None]


@pytest.mark.parametrize(("text", "speed"), [("1", 1), ("2x", 2), ("0.5", 0.5), ("1000", 1000), ("max", math.inf)])
def test_speeds(text, speed):
    assert speed_of(text) == speed


@pytest.mark.parametrize("text", ["0", "0.01", "1001", "9999x"])
def test_what_is_no_speed_is_refused(text):
    with pytest.raises(InvalidRequest, match=r"speed: from 0\.1 to 1000, or max"):
        speed_of(text)


async def test_chunks_come_as_they_came_and_the_queue_is_not_waited_for():
    parts = await told(entry(3), [WAITED_MS + 40, WAITED_MS + 80, WAITED_MS + 120], WAITED_MS, 1.0)
    assert [part.chunks for _, part in parts] == [[b"1"], [b"2"], [b"3"], []]
    for (at_s, _), due_s in zip(parts, (0.04, 0.08, 0.12, 0.12), strict=True):
        assert due_s <= at_s < due_s + WAITED_MS / 1000
    assert parts[-1][1].final == b"end"


async def test_twice_the_speed_takes_half_the_time_and_max_none():
    times = [WAITED_MS + 200, WAITED_MS + 400]
    assert _due_s(entry(2), times, WAITED_MS, 2.0) == [0.1, 0.2]
    assert [part.chunks for _, part in await told(entry(2), times, WAITED_MS, math.inf)] == [[b"1", b"2"], []]


async def test_who_comes_back_goes_on_from_there():
    assert _due_s(entry(2, first=3), [10, 20, 70, 120], 0, 1.0) == [0.05, 0.1]


async def test_a_chunk_without_a_time_comes_with_the_last():
    assert _due_s(entry(3), [100, 200], 0, 1.0) == [0.1, 0.2, 0.2]


async def test_an_answer_without_chunks_is_its_end():
    assert [part.final for _, part in await told(Entry(1, 1, [], b"end"), [], 0, 1.0)] == [b"end"]


async def test_a_long_silence_is_told(monkeypatch):
    monkeypatch.setattr("api.pace.SILENCE_S", 0.02)
    line = [part async for part in paced(entry(1), [90], 0, 1.0)]
    assert line.count(None) >= 3


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=200), st.floats(0.1, 1000))
def test_every_chunk_once_in_order_and_no_more_wake_ups_than_steps(times, speed):
    times.sort()
    whole = entry(len(times))
    due_s = _due_s(whole, times, 0, speed)
    parts = list(_parts(whole, due_s))
    assert [chunk for _, part in parts for chunk in part.chunks] == whole.chunks
    assert [due for due, _ in parts] == sorted(due for due, _ in parts)
    assert len(parts) <= due_s[-1] / STEP_S + 2
    assert sum(part.final is not None for _, part in parts) == 1


async def test_it_ends_with_its_reader():
    line = paced(entry(2), [0, 60_000], 0, 1.0)
    assert (await anext(line)).chunks == [b"1"]
    waiting = asyncio.ensure_future(anext(line))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(StopAsyncIteration):
        await anext(line)
