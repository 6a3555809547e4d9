"""How soon is the engine's slot free when nobody wants an answer any more?  `make bench NAME=cancel`.

A real engine on the CPU with a small model whose answers do not end by themselves, and the service in front of it.  Three ways by
turns: a streaming client hangs up, a waiting client hangs up, a running job is deleted; and, to compare with, the engine's own abort
with no service in between.  Counted from the client's close (or from the sending of the request) to the first reply of the engine's
`/v1/loads` that shows nothing running, so asking is part of the time; what asking takes by itself stands beside it.  The budget is
100 ms for 95 of 100.  A trial ends after 30 s.
"""

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from benchmarks import engine, load, report, shape
from benchmarks.load import percentile
from infra.engine.server import default_card
from tests.flow.stack import Stack

CARD = default_card("cpu")
BUDGET_MS = 100.0
LIMIT_S = 30.0
TOKENS = 6000
"""More than any trial lets it say."""
_ASK_S = 0.002  # between two looks at the engine: more would steal its time
_PAUSES_S = (0.0, 0.1)  # by which the engine is at no certain point of its work
COLUMNS = ("who", "trials", "p50 ms", "p95", "max", f"p95 within {BUDGET_MS:.0f} ms", "asking the engine takes, p50 ms")

Request = AbstractAsyncContextManager[aiohttp.ClientResponse]


@dataclass
class Bench:
    http: aiohttp.ClientSession
    engine_url: str
    service: load.Server
    asked_ms: list[float] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=count)

    async def until(self, running: int) -> float:
        """The clock when the engine says that so many run."""
        while True:
            asked_s = time.monotonic()
            async with self.http.get(f"{self.engine_url}/v1/loads", params={"include": "core"}) as answer:
                loads = (await answer.json())["loads"]
            now_s = time.monotonic()
            self.asked_ms.append((now_s - asked_s) * 1000)
            if sum(one["num_running_reqs"] for one in loads) == running:
                return now_s
            await asyncio.sleep(_ASK_S)

    async def hang_up(self, *, stream: bool) -> float:
        """Seconds from a client's close to a free slot."""
        writer = await self._left_open(self.service, {"stream": stream})
        left_s = time.monotonic()
        writer.close()
        return await self.until(0) - left_s

    async def delete(self) -> float:
        """Seconds from the sending of DELETE to a free slot."""
        async with self._send("POST", "/v1/jobs", json=_wanted()) as answer:
            answer.raise_for_status()
            job = (await answer.json())["id"]
        await self._is_running()
        return await self._freed_by(self._send("DELETE", f"/v1/jobs/{job}"))

    async def abort(self) -> float:
        """Seconds from an abort sent to the engine itself to a free slot."""
        rid = f"trial-{next(self._numbers)}"
        writer = await self._left_open(load.Server(self.engine_url, ""), {"stream": True, "rid": rid})
        freed_s = await self._freed_by(self.http.post(f"{self.engine_url}/abort_request", json={"rid": rid}))
        writer.close()
        return freed_s

    async def _left_open(self, server: load.Server, fields: dict[str, object]) -> asyncio.StreamWriter:
        """A chat that runs; nobody reads its answer."""
        where, body = urlsplit(server.url), orjson.dumps(_wanted() | fields)
        _, writer = await asyncio.open_connection(where.hostname, where.port)
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {where.netloc}\r\nAuthorization: Bearer {server.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await self._is_running()
        return writer

    def _send(self, method: str, path: str, **body: Any) -> Request:
        headers = {"Authorization": f"Bearer {self.service.key}"}
        return self.http.request(method, self.service.url + path, headers=headers, **body)

    async def _freed_by(self, request: Request) -> float:
        sent_s = time.monotonic()
        sending = asyncio.create_task(_accepted(request))
        free_s = await self.until(0)
        await sending
        return free_s - sent_s

    async def _is_running(self) -> None:
        await self.until(1)
        await asyncio.sleep(random.uniform(*_PAUSES_S))
        await self.until(1)  # an answer that ended by itself would be taken for one that was cancelled


async def _accepted(request: Request) -> None:
    async with request as answer:
        answer.raise_for_status()


def _wanted() -> dict[str, object]:
    messages = [{"role": "user", "content": "Say something that has no end."}]
    return {"messages": messages, "max_tokens": TOKENS, "temperature": 0}


async def measured(engine_url: str, service: load.Server, trials: int) -> list[list[str]]:
    """The rows."""
    async with load.session() as http:
        bench = Bench(http, engine_url, service)
        ways: dict[str, Callable[[], Awaitable[float]]] = {
            "a streaming client hangs up": lambda: bench.hang_up(stream=True),
            "a waiting client hangs up": lambda: bench.hang_up(stream=False),
            "a running job is deleted": bench.delete,
            "the engine's own abort": bench.abort,
        }
        for way in ways.values():  # connections and code paths, once
            await _trial(way, bench)
        taken_ms: dict[str, list[float]] = {who: [] for who in ways}
        for _ in range(trials):
            for who, way in ways.items():
                taken_ms[who].append(await _trial(way, bench))
        return [row(who, times, bench) for who, times in taken_ms.items()]


async def _trial(way: Callable[[], Awaitable[float]], bench: Bench) -> float:
    async with asyncio.timeout(LIMIT_S):
        await bench.until(0)
        return await way() * 1000


def row(who: str, times_ms: Sequence[float], bench: Bench) -> list[str]:
    p95 = percentile(times_ms, 0.95)
    times = [f"{time_ms:.0f}" for time_ms in (percentile(times_ms, 0.5), p95, max(times_ms))]
    return [
        who,
        str(len(times_ms)),
        *times,
        "yes" if p95 <= BUDGET_MS else "no",
        f"{percentile(bench.asked_ms, 0.5):.1f}",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    options = argparse.ArgumentParser(description="From cancel to a free slot in the engine")
    options.add_argument("--trials", type=int, default=60)
    wanted = options.parse_args(arguments)
    print(report.taken("a small model on the CPU"))
    with tempfile.TemporaryDirectory() as folder:
        model = shape.write(Path(folder) / "model", shape.SMALL)
        flags = ("--model-path", str(model), *shape.FLAGS_ON_CPU, "--load-snapshot-publish-interval", "1")
        with (
            engine.running(CARD, "cpu", *flags) as url,
            Stack(Path(folder) / "stack", None, TRAM_ENGINE_URL=url) as stack,
        ):
            print(f"SGLang {engine.about(url)['version']}\n")
            rows = asyncio.run(measured(url, load.Server(stack.url, CARD.id, stack.key), wanted.trials))
    print(report.table(COLUMNS, rows))


if __name__ == "__main__":
    main()
