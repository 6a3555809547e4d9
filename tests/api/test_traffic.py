"""Recorded requests are sent again in time, as they were, and what came back is counted; on the scriptable engine."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import pytest

from api import traffic
from api.traffic import Report, Target, body_of, send_again, spread
from infra.ports import free_port
from models.lifecycle import JobState
from models.traffic import Recorded
from tests.fakes.engine import FakeEngine
from tests.fakes.receiver import Receiver, Reply

NOW = 1_800_000_000_000


def recorded(words: str, after_ms: int = 0, **parameters) -> Recorded:
    at = NOW + after_ms
    messages = [{"role": "user", "content": words}]
    return Recorded(f"job_{after_ms}", at, "tiny", parameters, messages, JobState.COMPLETED, at + 30, at + 90)


async def each(requests: Sequence[Recorded]) -> AsyncIterator[Recorded]:
    for request in requests:
        yield request


async def sent(engine: FakeEngine, *requests: Recorded, **how) -> Report:
    return await send_again(each(requests), Target(engine.url, "sk-key", **how))


async def test_requests_are_sent_as_they_were_and_counted():
    async with FakeEngine() as engine:
        report = await sent(engine, recorded("!tokens=3", seed=7, service_tier="flex"), recorded("!tokens=4"))
    told = report.told()
    assert (told["sent"], told["answered"], told["failed"], told["late"]) == (2, 2, 0, 0)
    assert told["latency_ms"]["recorded"] == {"p50": 90, "p95": 90, "p99": 90}
    assert told["ttft_ms"]["recorded"]["p50"] == 30
    assert 0 < told["ttft_ms"]["replayed"]["p50"] <= told["latency_ms"]["replayed"]["p50"]
    first = engine.requests[0]
    assert (first["seed"], first["stream"], first["model"]) == (7, True, "tiny")
    assert first["messages"] == [{"role": "user", "content": "!tokens=3"}]


def test_what_the_request_wanted_it_is_a_stream_now_that_is_not_stored():
    body = body_of(recorded("a", stream=False, stream_options={"include_usage": True}, temperature=0), "other")
    assert body == {
        "model": "other",
        "messages": recorded("a").messages,
        "temperature": 0,
        "stream": True,
        "store": False,
    }


async def test_they_are_as_far_apart_as_they_came_or_closer():
    requests = [recorded("!tokens=1"), recorded("!tokens=1", 1_200)]
    async with FakeEngine() as engine:
        began_s = time.monotonic()
        await sent(engine, *requests)
        middle_s = time.monotonic()
        await sent(engine, *requests, speed=4)
        end_s = time.monotonic()
    assert middle_s - began_s >= 1.2
    assert 0.3 <= end_s - middle_s < middle_s - began_s


async def test_no_more_are_open_than_may_be_and_what_waits_is_late():
    requests = [recorded("!tokens=3 rate=20", number) for number in range(4)]
    async with FakeEngine() as engine:
        report = await sent(engine, *requests, at_once=1)
    assert (report.sent, len(report.latency_ms), report.late) == (4, 4, 3)


async def test_failures_are_counted_by_what_they_were():
    requests = [recorded(f"!{words}") for words in ("status=503", "error_event", "tokens=5 fail_after=2", "tokens=2")]
    async with FakeEngine() as engine:
        report = await sent(engine, *requests)
    assert len(report.latency_ms) == 1
    assert report.failures.total() == 3
    assert {"HTTP 503", "503"} <= set(report.failures)


ODD = {
    b'{"error": "overloaded"}': "error event",
    b'{"error": null}': "error event",
    b'{"error": {"code": 7}}': "7",
    b"null": "odd event",
    b"[1]": "odd event",
    b'{"choices": [null]}': "odd event",
    b'{"choices": 1}': "odd event",
    b'{"choices": [{"delta": "a"}]}': "odd event",
    b"{": "JSONDecodeError",
}


async def test_what_is_no_chunk_is_that_requests_failure():
    async with Receiver() as stranger:
        stranger.script(*(Reply(200, b"data: " + event + b"\n\n") for event in ODD))
        requests = [recorded("a", number) for number in range(len(ODD))]
        report = await send_again(each(requests), Target(stranger.url.removesuffix("/hook"), "sk", at_once=1))
    assert (report.sent, report.failures) == (len(ODD), Counter(ODD.values()))


@pytest.mark.parametrize(("key", "told"), [("sk-key", "Bearer sk-key"), ("", None)])
async def test_a_target_is_told_a_key_where_there_is_one(key, told):
    async with Receiver() as stranger:
        await send_again(each([recorded("a")]), Target(stranger.url, key))
        assert (await stranger.next()).headers.get("authorization") == told


async def test_a_target_that_is_not_there_fails_each():
    target = Target(f"http://127.0.0.1:{free_port('127.0.0.1')}/v1", "sk")
    report = await send_again(each([recorded("a"), recorded("b")]), target)
    assert (report.sent, dict(report.failures)) == (2, {"ClientConnectorError": 2})


async def test_who_interrupts_it_is_told_what_was_measured():
    async with FakeEngine() as engine:
        done = asyncio.Event()
        target = Target(engine.url, "sk")
        requests = [recorded("!tokens=1"), recorded("!hang", 1)]
        sending = asyncio.create_task(send_again(each(requests), target, lambda _: done.set()))
        await asyncio.gather(done.wait(), engine.until(lambda: (len(engine.requests), engine.running) == (2, 1), 10))
        sending.cancel()
        report = await sending
    assert (report.sent, len(report.latency_ms), dict(report.failures)) == (2, 1, {"interrupted": 1})


async def test_an_answer_that_takes_for_ever_ends(monkeypatch):
    monkeypatch.setattr(traffic, "TIMEOUT_S", 0.2)
    async with FakeEngine() as engine:
        report = await sent(engine, recorded("!hang"))
    assert dict(report.failures) == {"TimeoutError": 1}


@pytest.mark.parametrize(
    ("values", "told"),
    [([], [None] * 3), ([5], [5] * 3), (list(range(1, 101)), [51, 96, 100])],
)
def test_percentiles_are_values_that_were_measured(values, told):
    assert list(spread(values).values()) == told
