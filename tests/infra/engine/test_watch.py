"""Does the watch tell an engine that works, however slowly, from one that is stuck?"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from infra.engine.watch import EngineWatch, load_of
from infra.ports import free_port

IDLE = {"num_running_reqs": 0, "num_waiting_reqs": 0, "total_prefill_uncached_tokens": 7, "num_used_tokens": 0}
BUSY = IDLE | {"num_running_reqs": 3, "num_waiting_reqs": 2, "num_used_tokens": 900, "decode_moments": [5.0, 5.0]}


class Engine:
    """Answers as SGLang does, with the loads it is given one after the other."""

    def __init__(self, *loads: dict) -> None:
        self.loads = list(loads)
        self.statuses: dict[str, int] = {}
        self.page: str | None = None
        """In place of the loads."""
        self.takes = asyncio.Event()
        self.takes.set()

    async def tell(self, request: web.Request) -> web.Response:
        assert request.query == {"include": "core"}
        if self.page is not None:
            return web.Response(text=self.page, content_type="text/html")
        if status := self.statuses.get("loads"):
            return web.json_response({"error": {}}, status=status)
        return web.json_response({"loads": [self.loads.pop(0) if len(self.loads) > 1 else self.loads[0]]})

    async def one_token(self, _: web.Request) -> web.Response:
        await self.takes.wait()
        return web.Response(status=self.statuses.get("token", 200))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[EngineWatch]:
        app = web.Application()
        app.router.add_get("/v1/loads", self.tell)
        app.router.add_get("/health_generate", self.one_token)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield EngineWatch(f"http://127.0.0.1:{runner.addresses[0][1]}")
        finally:
            self.takes.set()
            await runner.cleanup()


async def test_requests_without_progress_are_a_complaint():
    async with Engine(BUSY).running() as watch:
        assert await watch.complaint() == "", "one look tells nothing of progress"
        assert await watch.complaint() == await watch.complaint() == "5 requests, and no token"


@pytest.mark.parametrize(
    "progress",
    [{"total_prefill_uncached_tokens": 8199}, {"decode_moments": [6.0, 6.0]}, {"num_used_tokens": 903}],
    ids=["a piece of a long prompt", "a step", "room that a token took"],
)
async def test_any_progress_is_none(progress):
    async with Engine(BUSY, BUSY | progress).running() as watch:
        assert [await watch.complaint() for _ in range(2)] == ["", ""]


async def test_an_idle_engine_makes_no_token_and_is_well():
    async with Engine(IDLE).running() as watch:
        assert [await watch.complaint() for _ in range(3)] == ["", "", ""]


async def test_a_scheduler_that_takes_nothing_is_a_complaint_though_it_seems_idle():
    engine = Engine(IDLE)
    async with engine.running() as watch:
        engine.takes.clear()
        with pytest.MonkeyPatch.context() as impatient:  # only where nothing comes anyway
            impatient.setattr("infra.engine.watch._TOKEN", aiohttp.ClientTimeout(total=0.2))
            assert await watch.complaint() == "it took no request"
        engine.takes.set()
        assert await watch.complaint() == ""
        engine.statuses["token"] = 503
        assert await watch.complaint() == "it took no request"


async def test_a_server_that_fails_or_is_away_is_a_complaint():
    engine = Engine(IDLE)
    async with engine.running() as watch:
        engine.statuses["loads"] = 500
        assert await watch.complaint() == "the server did not answer (ClientResponseError)"
    away = EngineWatch(f"http://127.0.0.1:{free_port('127.0.0.1')}")
    assert await away.complaint() == "the server did not answer (ClientConnectorError)"


async def test_one_without_loads_is_judged_by_its_answers():
    engine = Engine(BUSY)
    async with engine.running() as watch:
        engine.statuses["loads"] = 404
        assert [await watch.complaint() for _ in range(2)] == ["", ""]
        engine.statuses["token"] = 503
        assert await watch.complaint() == "it took no request"


@pytest.mark.parametrize("page", ["<html>back soon</html>", "[]", "null"])
async def test_so_is_one_whose_loads_cannot_be_read(page: str):
    engine = Engine(BUSY)
    async with engine.running() as watch:
        engine.page = page
        assert [await watch.complaint() for _ in range(2)] == ["", ""]
        engine.page = None
        assert [await watch.complaint() for _ in range(2)] == ["", "5 requests, and no token"]


def test_the_loads_of_all_schedulers_count():
    load = load_of({"loads": [BUSY, IDLE]})
    assert load.requests == 5
    assert load.progress != load_of({"loads": [BUSY, IDLE | {"num_used_tokens": 1}]}).progress
    assert load_of({"loads": []}).requests == 0


@pytest.mark.engine
@pytest.mark.timeout(300)
async def test_the_real_one_tells_what_is_looked_for(engine_url):
    """Busy, it moves between any two looks; idle, it does not, and is well."""
    watch, asked = EngineWatch(engine_url), {"max_new_tokens": 300, "ignore_eos": True, "temperature": 0}
    body = {"text": "Watched.", "sampling_params": asked, "stream": True}
    seen = []
    async with aiohttp.ClientSession() as http, http.post(f"{engine_url}/generate", json=body) as answer:
        async for _ in answer.content:
            seen.append(watch._before.requests)
            assert await watch.complaint() == ""
            if len(seen) > 4:
                break
    assert max(seen) > 0
    assert await watch.complaint() == ""
