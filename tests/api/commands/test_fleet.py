"""`tram workers` shows who is there, for people and for programs, and says by its exit status that nobody is."""

import json
from collections.abc import Iterator

import pytest
from redis import Redis
from typer.testing import CliRunner

from api.commands.console import console
from api.commands.fleet import app
from infra.fleet import Engine, Totals, Worker
from infra.redis import WORKER, WORKERS
from infra.settings import Settings
from models.errors import Unavailable

ENGINE = Engine(joined=False, ready=True, name="sglang", version="0.5.23")
BUSY = Worker(
    name="gpu-1-7-abcdefgh",
    host="gpu-1",
    pid=7,
    card="tram-demo",
    capacity=24,
    engine=ENGINE,
    version="0.1.0",
    gpu="NVIDIA H200",
    since=0.0,
    running=5,
    totals=Totals(jobs=2, prompt_tokens=200, cached_tokens=150, completion_tokens=9),
)
STARTING = BUSY.model_copy(
    update={"name": "gpu-2-7-abcdefgh", "engine": Engine(joined=True), "gpu": "", "totals": Totals(), "running": 0}
)


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """A database of the test's own."""
    with Redis(unix_socket_path=redis_url.removeprefix("unix://"), db=8) as client:
        client.flushdb()
        yield client


@pytest.fixture
def settings(redis_url: str) -> Settings:
    return Settings(_env_file=None, redis_url=f"{redis_url}?db=8")


def announce(redis: Redis, *workers: Worker) -> None:
    for worker in workers:
        redis.set(WORKER + worker.name, worker.model_dump_json())
        redis.sadd(WORKERS, worker.name)


def test_a_line_a_worker(redis: Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch):
    announce(redis, STARTING, BUSY)
    monkeypatch.setattr(console, "width", 200)
    done = CliRunner().invoke(app, obj=settings)
    assert done.exit_code == 0, done.output
    first, second = (line for line in done.output.splitlines() if "gpu-" in line)
    for word in (BUSY.name, "tram-demo", "sglang 0.5.23, NVIDIA H200", "yes", "5/24", "75%", " d "):
        assert word in first
    for word in (STARTING.name, "unknown, joined", "no", "0/24"):
        assert word in second


def test_programs_get_all_that_is_told(redis: Redis, settings: Settings):
    announce(redis, BUSY, STARTING)
    done = CliRunner().invoke(app, ["--json"], obj=settings)
    assert [Worker.model_validate(told) for told in json.loads(done.output)] == [BUSY, STARTING]


@pytest.mark.parametrize(("options", "said"), [([], "No worker"), (["--json"], "[]")])
def test_nobody_is_an_exit_status(redis: Redis, settings: Settings, options: list[str], said: str):
    done = CliRunner().invoke(app, options, obj=settings)
    assert done.exit_code == 1
    assert said in done.output


def test_a_redis_that_is_away_is_said_so():
    done = CliRunner().invoke(app, obj=Settings(_env_file=None, redis_url="redis://127.0.0.1:1/0"))
    assert isinstance(done.exception, Unavailable)
