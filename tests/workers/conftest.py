"""A real Redis that can die, and a real worker process that tells on a pipe what its tasks do (see tests/fakes/tasks.py)."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from infra.broker import Publisher, TaskName, celery_app
from infra.ports import free_port
from infra.redis_server import find_server
from models.ids import SUFFIX_LENGTH

QUEUE = "chat.test"
WITHIN_S = 30.0  # a worker's start takes 1.5 s on idle cores


class RedisServer:
    """Keeps its port and its data over `kill` and `start`."""

    def __init__(self, home: Path) -> None:
        self._home, self._port = home, free_port("127.0.0.1")
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self.client = redis.Redis.from_url(self.url)

    def start(self) -> None:
        where = ["--port", str(self._port), "--bind", "127.0.0.1", "--dir", self._home]
        self._process = subprocess.Popen(
            [find_server(), *where, "--save", "", "--appendonly", "yes"], stdout=subprocess.PIPE
        )
        assert any(b"Ready to accept" in line for line in self._process.stdout)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(WITHIN_S)
        self._process.stdout.close()

    def waiting(self) -> int:
        return self.client.llen(QUEUE)


class Worker:
    def __init__(self, log: Path, redis_url: str, options: tuple[str, ...], **given: Any) -> None:
        self.log = log
        self._events, told = os.pipe()
        tasks = {"redis_url": redis_url, "pipe": told, **given}
        variables = {**os.environ, "CELERY_CUSTOM_WORKER_POOL": "workers.pool:AioPool", "TASKS": json.dumps(tasks)}
        quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat")
        command = ("-m", "celery", "-q", "-A", "tests.fakes.tasks", "worker", "-P", "custom", "-Q", QUEUE, *quiet)
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, *command, *options],
                env=variables,
                stdout=output,
                stderr=output,
                pass_fds=[told],
                cwd=Path(__file__).parents[2],
            )
        os.close(told)
        self._unread = b""

    def hears(self, *words: str) -> list[str]:
        """Waits for an event that begins so; all its words."""
        while True:
            told = self._next(time.monotonic() + WITHIN_S)
            if told[: len(words)] == list(words):
                return told

    def _next(self, deadline: float) -> list[str]:
        while b"\n" not in self._unread:
            ready, _, _ = select.select([self._events], [], [], max(0, deadline - time.monotonic()))
            piece = os.read(self._events, 65536) if ready else b""
            assert piece, f"the worker told nothing more:\n{self.log.read_text(errors='replace')[-3000:]}"
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode().split()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ends(self) -> int:
        return self.process.wait(WITHIN_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(WITHIN_S)
        os.close(self._events)


def until(holds: Callable[[], bool], within_s: float = WITHIN_S) -> None:
    """For what only another process knows: asks again every 20 ms."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.02)


def item(kind: str, number: int = 0) -> str:
    return f"{kind}_{number:0{SUFFIX_LENGTH}d}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    running = RedisServer(tmp_path)
    running.start()
    yield running
    running.client.close()
    running.kill()


@pytest.fixture
def send(server: RedisServer) -> Iterator[Callable[..., None]]:
    publisher = Publisher(celery_app(server.url))
    publisher.start()
    yield lambda *ids: [publisher.publish_soon(TaskName.GENERATE, QUEUE, item_id) for item_id in ids]
    publisher.close()


@pytest.fixture
def start(server: RedisServer, tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def begin(*options: str, concurrency: int = 4, **given: Any) -> Worker:
        log = tmp_path / f"worker-{len(workers)}.log"
        workers.append(Worker(log, server.url, ("-c", str(concurrency), *options), **given))
        return workers[-1]

    yield begin
    for worker in workers:
        worker.close()
