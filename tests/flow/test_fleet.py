"""Several workers on one broker: who gets which job, in which order, and what callers are told while nobody is there.

The second worker is `tram worker` with an engine and a model of its own: beside the stack, or in network and host names of its own,
where neither side can reach the other's engine.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import httpx2
import pytest
from redis import Redis

from infra.ports import free_port
from models.jobs import PUBLISH_DOUBT_MS
from tests.flow.conftest import CONCURRENCY, SETTINGS
from tests.flow.engine import PROGRAM, Engine, mortal
from tests.flow.stack import START_S, STOP_S, Stack, cleaned, said, tram, until

pytestmark = pytest.mark.timeout(240)
JOINED = "tiny"
"""What the first worker's engine calls its model, which is in no catalogue."""
MODEL, CAPACITY = "tram-demo", 2
"""The second's."""
DOUBT_S = PUBLISH_DOUBT_MS / 1000
ELSEWHERE = ("unshare", "--map-root-user", "--net", "--uts", "--")
AWAY_S = 5.0
"""For a worker that stops in order: it takes its announcement back, and the API reads that within a second."""


class Second:
    """A worker of another card (or of what the engine lists, if `model` is empty), which joins an engine beside it."""

    def __init__(self, stack: Stack, *, elsewhere: bool, model: str = MODEL) -> None:
        self._stack, self.elsewhere = stack, elsewhere
        self._card, self._others = model or JOINED, {worker["name"] for worker in workers(stack)}
        self._port = free_port("127.0.0.1")
        own = {"TRAM_MODEL": model, "TRAM_ENGINE_URL": f"http://127.0.0.1:{self._port}", "TRAM_DRAIN_S": "5"}
        data = {"TRAM_DATA_DIR": str(stack.folder / "data"), "TRAM_CONCURRENCY": str(CAPACITY)}
        self._environment = cleaned(os.environ) | data | own
        self.log = stack.folder / "second.log"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        alone = "ip link set lo up && hostname gpu-2 && " if self.elsewhere else ""
        engine = " ".join(mortal(sys.executable, str(PROGRAM), "--port", str(self._port)))
        script = f"{alone}{{ {engine} > /dev/null & }} && exec {tram()} worker"
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                mortal(*(ELSEWHERE if self.elsewhere else ()), "sh", "-c", script),
                env=self._environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        until(lambda: self.shown() or self._process.poll() is not None, START_S)
        assert self._process.poll() is None, self.log.read_text()

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            assert self._process.wait(STOP_S) == 0, self.log.read_text()
            until(lambda: not self.shown(), AWAY_S)
            until(lambda: self._card == JOINED or not models(self._stack)[self._card]["served"], AWAY_S)

    def shown(self) -> dict[str, Any] | None:
        there = (worker for worker in workers(self._stack) if worker["name"] not in self._others)
        return next((worker for worker in there if worker["card"] == self._card), None)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Engine() as engine, Stack(tmp_path_factory.mktemp("fleet"), engine, **SETTINGS) as running:
        yield running


@pytest.fixture(params=[pytest.param(False, id="beside"), pytest.param(True, id="elsewhere")])
def second(first: Stack, request: pytest.FixtureRequest) -> Iterator[Second]:
    if request.param and subprocess.run((*ELSEWHERE, "true"), check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody make network namespaces")
    with Second(first, elsewhere=request.param) as running:
        yield running


def workers(stack: Stack) -> list[dict[str, Any]]:
    """What `tram workers` reads, without its start."""
    with Redis(unix_socket_path=str(stack.folder / "data" / "redis.sock")) as redis:
        return [json.loads(told) for key in redis.scan_iter("tram:worker:*") if (told := redis.get(key))]


def models(stack: Stack) -> dict[str, dict[str, Any]]:
    return {model["id"]: model for model in stack.http.get("/v1/models").raise_for_status().json()["data"]}


def chat(stack: Stack, **fields: Any) -> httpx2.Response:
    return stack.http.post("/v1/chat/completions", json={"messages": said("!tokens=3"), **fields})


def states(stack: Stack, made: list[str]) -> Counter[str]:
    return Counter(stack.job(job_id)["state"] for job_id in made)


def test_the_first_chat_after_a_start_finds_a_worker(tmp_path: Path):
    """By no name, and by one that no catalogue has: this API heard of it a moment ago, if at all."""
    with Engine() as engine, Stack(tmp_path, engine, **SETTINGS) as fresh:
        assert chat(fresh).json()["model"] == JOINED
        fresh.restarted("api", fresh.kill("api"))
        assert chat(fresh, model=JOINED).status_code == 200
        assert chat(fresh, model="no-such").status_code == 404


def test_each_job_goes_to_a_worker_of_its_model(first: Stack, second: Second):
    before = len(first.engine.requests())
    made = [(model, first.submit("!tokens=3", model=model)) for model in (JOINED, MODEL) * 6]
    for model, job_id in made:
        job = first.ended(job_id)
        assert (job["state"], job["result"]["model"]) == ("completed", model), job
    assert len(first.engine.requests()) - before == 6, "the other six were asked elsewhere"
    hanging = [first.submit("!hang", model=MODEL) for _ in range(CAPACITY + 2)]
    until(lambda: states(first, hanging) == {"in_progress": CAPACITY, "queued": 2}, 20)
    assert chat(first, model=JOINED).status_code == 200, "a full worker is nobody else's trouble"
    for job_id in hanging:
        first.http.delete(f"/v1/jobs/{job_id}").raise_for_status()
    until(lambda: states(first, hanging) == {"cancelled": CAPACITY + 2}, 20)


def test_what_is_there_is_shown(first: Stack, second: Second):
    until(lambda: all(worker["engine"]["ready"] for worker in workers(first)), 20)
    shown = {worker["card"]: worker for worker in json.loads(first.command("workers", "--json"))}
    assert {card: worker["capacity"] for card, worker in shown.items()} == {JOINED: CONCURRENCY, MODEL: CAPACITY}
    assert (shown[MODEL]["host"] == "gpu-2") is second.elsewhere
    assert shown[MODEL]["engine"]["joined"]
    table = first.command("workers")
    assert all(f"{worker['running']}/{worker['capacity']}" in table for worker in shown.values())
    listed = models(first)
    served = {name: (model["workers"], model["capacity"]) for name, model in listed.items() if model["served"]}
    assert served == {JOINED: (1, CONCURRENCY), MODEL: (1, CAPACITY)}
    assert list(served) == list(listed)[: len(served)], "what is served comes first"
    assert {(model["workers"], model["capacity"]) for model in listed.values() if not model["served"]} == {(0, 0)}
    metrics = first.http.get("/metrics").text
    assert f'card="{MODEL}",worker="{shown[MODEL]["name"]}"' in metrics
    assert f'tram_worker_capacity{{card="{MODEL}",worker="{shown[MODEL]["name"]}"}} {CAPACITY}.0' in metrics


def test_while_its_worker_is_away_a_chat_is_refused_and_a_job_waits(first: Stack, second: Second):
    assert chat(first, model=MODEL).status_code == 200
    second.stop()
    for fields in ({}, {"stream": True}):
        refused = chat(first, model=MODEL, **fields)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "no_worker")
        assert 0 < int(refused.headers["retry-after"]) <= 120
    waiting = [first.submit("!tokens=3", model=MODEL) for _ in range(3)]
    background = chat(first, model=MODEL, background=True)
    assert (background.status_code, background.json()["status"]) == (202, "queued")
    assert chat(first).json()["model"] == JOINED, "who names no model is served by whom there is"
    assert states(first, waiting) == {"queued": 3}
    second.start()
    assert chat(first, model=MODEL).status_code == 200, "nobody is refused for what was so a second ago"
    assert {first.ended(job_id)["state"] for job_id in waiting} == {"completed"}


def test_a_worker_whose_engine_restarts_is_counted_on(first: Stack):
    first.engine.kill()
    until(lambda: not workers(first)[0]["engine"]["ready"], 20)
    assert models(first)[JOINED]["served"]
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(chat, first)
        first.engine.start()
        assert asked.result(60).status_code == 200
    until(lambda: workers(first)[0]["engine"]["ready"], 20)


def test_of_two_workers_the_one_whose_engine_is_away_takes_nothing(first: Stack):
    with Second(first, elsewhere=False, model="") as second, ThreadPoolExecutor(CONCURRENCY) as pool:
        until(lambda: second.shown()["engine"]["ready"], 20)
        first.engine.kill()
        for _ in range(3):
            began = time.monotonic()
            answered = pool.map(lambda _: chat(first).status_code, range(2 * CONCURRENCY))
            assert set(answered) == {200}
            assert time.monotonic() - began < DOUBT_S, "nobody had to miss a message that the other had taken"
        first.engine.start()
    assert chat(first).status_code == 200


def test_a_redis_that_lost_everything_does_not_make_workers_disappear(first: Stack):
    old = first.kill("redis")
    shutil.rmtree(first.folder / "data" / "redis" / "appendonlydir")
    first.restarted("redis", old)
    assert chat(first).status_code == 200
    until(lambda: workers(first), 20)


def test_the_more_urgent_goes_first(first: Stack):
    """One slot, the others taken: whatever its order of arrival, it takes what waits by tier."""
    held = [first.submit("!hang") for _ in range(CONCURRENCY)]
    first.engine.wait(running=CONCURRENCY)
    arriving = [("flex", 4), ("flex", 5), ("default", 6), ("priority", 7), (None, 8), ("priority", 9)]
    made = [first.submit(f"!tokens={count}", service_tier=tier) for tier, count in arriving]
    finished = first.engine.state()["finished"]
    assert states(first, made) == {"queued": len(made)}
    first.http.delete(f"/v1/jobs/{held[0]}").raise_for_status()
    assert {first.ended(job_id)["state"] for job_id in made} == {"completed"}
    first.engine.wait(min_finished=finished + len(made))
    asked = [body["messages"][-1]["content"] for body in first.engine.requests()[-len(made) :]]
    assert asked == [f"!tokens={count}" for count in (7, 9, 6, 8, 4, 5)]
    for job_id in held[1:]:
        first.http.delete(f"/v1/jobs/{job_id}").raise_for_status()
    first.engine.wait(running=0)


def test_what_workers_have_done_is_counted(first: Stack):
    def counted(kind: str) -> float:
        name = rf'tram_worker_tokens_total{{card="{JOINED}",kind="{kind}",worker="[^"]+"}} ([\d.]+)'
        return sum(map(float, re.findall(name, first.http.get("/metrics").text)))

    before = counted("completion")
    usage = first.ended(first.submit("!tokens=500"))["usage"]
    assert usage["completion_tokens"] == 500
    until(lambda: counted("completion") >= before + 500, 20)
    assert counted("prompt") >= usage["prompt_tokens"]


def test_health_checks_tell(first: Stack):
    until(lambda: first.tries("health", "upkeep") == 0, 60)  # which nobody waits for when a stack starts
    for part in ("api", "worker", "upkeep"):
        assert first.command("health", part) == f"{part}: ok"
    assert first.command("health", "worker", "--ready") == "worker: ok"
