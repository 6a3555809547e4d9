"""Does the embedded server keep its state, keep to itself, and keep out a second one?"""

import asyncio
import os
import platform
import select
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from infra import redis_server
from infra.processes import Child, Event, Step, Supervisor
from models.errors import Conflict, Unavailable

WITHIN_S = 20.0


class Server:
    """One embedded server, which a test may start more than once."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.socket = home / "redis.sock"
        self.ready = asyncio.Event()

    def child(self) -> Child:
        return redis_server.child(redis_server.find_server(), data_dir=self.home, socket=self.socket)

    async def wait_until_ready(self) -> None:
        await asyncio.wait_for(self.ready.wait(), WITHIN_S)

    def report(self, event: Event) -> None:
        if event.step is Step.READY:
            self.ready.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Redis]:
        stop = asyncio.Event()
        self.ready.clear()
        run = asyncio.create_task(Supervisor([self.child()], self.report).run(stop))
        await self.wait_until_ready()
        client = Redis(unix_socket_path=str(self.socket), decode_responses=True)
        try:
            yield client
        finally:
            await client.aclose()
            stop.set()
            await asyncio.wait_for(run, WITHIN_S)


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


async def test_what_was_written_is_there_after_a_stop(server: Server) -> None:
    async with server.running() as redis:
        await redis.set("kept", "yes")
        entry = await redis.xadd("stream", {"token": "a"})
        await redis.xtrim("stream", maxlen=0)
    async with server.running() as redis:
        assert await redis.get("kept") == "yes"
        assert (await redis.xinfo_stream("stream"))["last-generated-id"] == entry


async def test_what_is_a_second_old_survives_a_kill_and_the_server_comes_back(server: Server) -> None:
    async with server.running() as redis:
        await redis.set("kept", "yes")
        await asyncio.sleep(1.2)  # this is what is promised: the log reaches the disk every second
        pid = (await redis.info("server"))["process_id"]
        await redis.aclose()
        server.ready.clear()
        os.kill(pid, signal.SIGKILL)
        await server.wait_until_ready()
        assert await redis.get("kept") == "yes"
        assert (await redis.info("server"))["process_id"] != pid


async def test_it_listens_on_a_socket_for_its_owner_alone(server: Server) -> None:
    async with server.running() as redis:
        told = await redis.info("server")
        assert told["tcp_port"] == 0
        assert stat.S_IMODE(server.socket.stat().st_mode) == 0o700
        assert (await redis.config_get("maxmemory-policy"))["maxmemory-policy"] == "noeviction"
        assert "eady to accept connections" in (server.home / "logs" / "redis.log").read_text()


async def test_a_socket_left_by_a_killed_server_is_no_hindrance(server: Server) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(server.socket))
    assert server.socket.exists()
    async with server.running() as redis:
        assert await redis.ping()


async def test_a_second_server_on_the_socket_is_refused(server: Server) -> None:
    async with server.running():
        with pytest.raises(Conflict, match=f"Another server answers on {server.socket}"):
            server.child()


def program(directory: Path, name: str, says: str) -> Path:
    path = directory / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def test_a_server_on_the_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    valkey = program(tmp_path, "valkey-server", "Valkey server v=8.0.1 sha=00000000:0 malloc=libc")
    assert redis_server.find_server() == valkey
    redis = program(tmp_path, "redis-server", "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0")
    assert redis_server.find_server() == redis


def test_one_too_old_for_celery_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    old = program(tmp_path, "redis-server", "Redis server v=6.0.16 sha=00000000:0 malloc=jemalloc-5.2.1")
    assert redis_server.find_server() not in {old, None}


def test_where_there_is_none_it_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(platform, "machine", lambda: "sparc64")
    with pytest.raises(Unavailable, match=r"apt-get install redis-server.*TRAM_REDIS_URL"):
        redis_server.find_server()


def test_a_data_directory_has_one_holder(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    with (
        redis_server.lock_data_dir(directory),
        pytest.raises(Conflict, match=f"{directory} is in use by process {os.getpid()};"),
        redis_server.lock_data_dir(directory),
    ):
        pass
    with redis_server.lock_data_dir(directory):  # free again
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


HOLDS = """
import asyncio, sys
from pathlib import Path
from infra.processes import Child, Step, Supervisor
from infra.redis_server import lock_data_dir

async def ready():
    return True

def report(event):
    if event.step is Step.READY:
        print("ready", flush=True)

with lock_data_dir(Path(sys.argv[1])) as lock:
    deaf = Child("deaf", ("sh", "-c", "trap '' TERM; echo $PPID; while :; do sleep 600; done"), {}, ready, start_s=20, stop_s=1)
    asyncio.run(Supervisor([deaf], report, hold=(lock,)).run(asyncio.Event()))
"""


def test_what_a_killed_supervisor_started_holds_the_directory_until_it_is_gone(tmp_path: Path) -> None:
    command = (sys.executable, "-c", HOLDS, str(tmp_path))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        told = {supervisor.stdout.readline().strip() for _ in range(2)}
        supervisor.kill()
        supervisor.wait()
        with (
            pytest.raises(Conflict, match=f"what process {supervisor.pid} started"),
            redis_server.lock_data_dir(tmp_path),
        ):
            pass
        keeper = os.pidfd_open(int((told - {"ready"}).pop()))
        assert select.select([keeper], [], [], WITHIN_S)[0]
        os.close(keeper)
    with redis_server.lock_data_dir(tmp_path):  # free again
        pass
