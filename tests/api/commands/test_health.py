"""What does `tram health` make of processes that are there, that are not, and that belong to somebody else?"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from redis import Redis
from typer.testing import CliRunner

from api.commands.health import app
from infra.fleet import Engine, Worker
from infra.redis import UPKEEP, WORKER, WORKERS
from infra.settings import Settings
from tests.api.conftest import Api

HERE = Worker(
    name="a",
    host=socket.gethostname(),
    pid=os.getpid(),
    card="tram-demo",
    capacity=1,
    engine=Engine(joined=False),
    version="0",
    since=0.0,
)


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """A database of the test's own."""
    with Redis(unix_socket_path=redis_url.removeprefix("unix://"), db=9) as client:
        client.flushdb()
        yield client


@pytest.fixture
def settings(redis_url: str) -> Settings:
    return Settings(_env_file=None, redis_url=f"{redis_url}?db=9")


def asked(settings: Settings, *words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, words, obj=settings)
    return done.exit_code, done.output.strip()


def announce(redis: Redis, worker: Worker) -> None:
    redis.set(WORKER + worker.name, worker.model_dump_json())
    redis.sadd(WORKERS, worker.name)


def test_a_worker_is_well_while_it_shows_itself(redis: Redis, settings: Settings):
    assert asked(settings, "worker") == (1, "worker: no worker of this host shows itself")
    announce(redis, HERE)
    assert asked(settings, "worker") == (0, "worker: ok")


def test_its_engine_is_asked_for_on_request(redis: Redis, settings: Settings):
    announce(redis, HERE)
    assert asked(settings, "worker", "--ready") == (1, "worker: its engine is not ready")
    announce(redis, HERE.model_copy(update={"engine": Engine(joined=False, ready=True)}))
    assert asked(settings, "worker", "--ready") == (0, "worker: ok")


def test_workers_elsewhere_and_dead_ones_do_not_count(redis: Redis, settings: Settings):
    with subprocess.Popen(["true"]) as ended:
        ended.wait(10)
    announce(redis, HERE.model_copy(update={"host": "elsewhere"}))
    announce(redis, HERE.model_copy(update={"name": "b", "pid": ended.pid}))
    assert asked(settings, "worker")[0] == 1


def test_an_upkeep_is_well_while_it_shows_itself_here(redis: Redis, settings: Settings):
    redis.set(f"{UPKEEP}elsewhere", "")
    assert asked(settings, "upkeep")[0] == 1
    redis.set(UPKEEP + socket.gethostname(), "")
    assert asked(settings, "upkeep") == (0, "upkeep: ok")


def test_an_api_is_asked_over_http(api: Api):
    there = Settings(_env_file=None, host="0.0.0.0", port=api.port)
    assert asked(there) == asked(there, "api") == (0, "api: ok")
    code, said = asked(Settings(_env_file=None, port=1))
    assert (code, said.partition(": ")[0]) == (1, "api")


@pytest.mark.parametrize("part", ["worker", "upkeep"])
def test_a_redis_that_is_away_is_ill_health(part: str):
    code, said = asked(Settings(_env_file=None, redis_url="redis://127.0.0.1:1/0"), part)
    assert (code, "ConnectionError" in said) == (1, True)


def test_it_imports_little():
    """It is run every few seconds: neither the database's nor the broker's libraries are its business."""
    script = "import sys, api.commands.health; print({'sqlalchemy', 'celery', 'aiohttp', 'fastapi'} & set(sys.modules))"
    done = subprocess.run((sys.executable, "-c", script), capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "set()"
