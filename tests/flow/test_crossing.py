"""Do five hundred streams at once ever cross?  Each has words of its own, and gets those, all of them, in order, to its own end."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from tests.flow.engine import Engine
from tests.flow.sse import Event, events_in, text_of
from tests.flow.stack import Stack, said

STREAMS = 500
RATE = 20
"""Tokens a second of each, so that no stream is sent in one piece."""
MEMORY_MIB = 256
"""Of each process; after half as many streams a process may have 200."""
FILES = 1024
"""What a process may hold open where nobody has raised it."""

pytestmark = pytest.mark.timeout(180)


@dataclass(frozen=True)
class Heard:
    number: int
    job_id: str
    events: list[Event]


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Engine() as engine, Stack(tmp_path_factory.mktemp("wide"), engine, TRAM_CONCURRENCY=str(STREAMS)) as running:
        yield running


def length(number: int) -> int:
    return 10 + number % 37


async def listen(http: aiohttp.ClientSession, number: int) -> Heard:
    script = f"!tokens={length(number)} name=stream-{number} together={STREAMS} rate={RATE}"
    async with http.post("/v1/chat/completions", json={"messages": said(script), "stream": True}) as answer:
        assert answer.status == 200, await answer.text()
        return Heard(number, answer.headers["x-tram-job"], events_in(await answer.text()))


async def all_at_once(stack: Stack) -> list[Heard]:
    """While their connections are open, the processes are asked what they hold."""
    headers, limit = {"Authorization": f"Bearer {stack.key}"}, aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(stack.url, headers=headers, connector=limit) as http:
        heard = await asyncio.gather(*(listen(http, number) for number in range(STREAMS)))
        for name, pid in stack.processes().items():
            memory_mib, files = held(pid)
            assert memory_mib < MEMORY_MIB, name
            assert files < FILES, name
        assert held(stack.processes()["api"])[1] > STREAMS
    return heard


def held(pid: int) -> tuple[float, int]:
    """The most memory the process has had, in MiB, and how many files it holds open."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    most_kib = int(status.partition("VmHWM:")[2].split()[0])
    return most_kib / 1024, len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def test_streams_never_cross(wide):
    """They wait for each other before the first word, so all are under way at the same time."""
    heard = await asyncio.wait_for(all_at_once(wide), 120)
    for one in heard:
        count, name = length(one.number), f"stream-{one.number}"
        assert text_of(one.events) == " ".join(f"{name} {number}" for number in range(1, count + 1))
        *chunks, done = one.events
        assert done.data == "[DONE]"
        assert {event.chunk["id"] for event in chunks} == {one.job_id.replace("job_", "chatcmpl-")}
        assert [event.id for event in chunks] == [f"1-{number}" for number in range(1, len(chunks) + 1)]
        assert [event.chunk["choices"][0]["finish_reason"] for event in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert len({one.job_id for one in heard}) == STREAMS
