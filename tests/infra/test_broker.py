"""Does a task get to its queue without holding the caller's loop, and does a broker that is away say so in time?"""

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import tempfile
import time
from base64 import b64decode
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from infra import broker
from infra.broker import BOUND_S, Publisher, TaskName, celery_app, depth
from infra.redis_server import find_server
from models.errors import Unavailable
from tests.plugins.loops import called_here

QUEUE = "chat.test"
WITHIN_S = 20.0
HELD_S = 1.5  # publishing on the loop would hold it for as long as a hung broker is waited for, which is seconds


class Server:
    """On a Unix socket, at a path short enough for one; keeps nothing over `kill` and `start`."""

    def __init__(self, home: str) -> None:
        self.path = f"{home}/r.sock"
        self.url = f"unix://{self.path}"
        self.client = Redis(unix_socket_path=self.path)

    def start(self) -> None:
        where = ["--port", "0", "--unixsocket", self.path, "--dir", str(Path(self.path).parent), "--save", ""]
        self.process = subprocess.Popen([find_server(), *where], stdout=subprocess.PIPE)
        assert any(b"Ready to accept" in line for line in self.process.stdout)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(WITHIN_S)
        self.process.stdout.close()

    async def messages(self, database: int = 0) -> list[dict]:
        async with Redis(unix_socket_path=self.path, db=database) as client:
            return [json.loads(text) for text in await client.lrange(QUEUE, 0, -1)]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    with tempfile.TemporaryDirectory() as home:
        running = Server(home)
        running.start()
        yield running
        await running.client.aclose()
        running.kill()


@pytest.fixture
def deaf_url() -> Iterator[str]:
    """Accepts, and says nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


@pytest.fixture
def refused_url() -> Iterator[str]:
    with socket.socket() as taken:  # bound, so that nobody else gets it, and not listening
        taken.bind(("127.0.0.1", 0))
        yield f"redis://127.0.0.1:{taken.getsockname()[1]}/0"


@contextlib.contextmanager
def publishing(url: str) -> Iterator[Publisher]:
    publisher = Publisher(celery_app(url))
    publisher.start()
    try:
        yield publisher
    finally:
        publisher.close()


@contextlib.asynccontextmanager
async def never_held() -> AsyncIterator[None]:
    """The loop turns at least every `HELD_S` seconds."""
    gaps = []

    async def watch() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.005)
            gaps.append(time.perf_counter() - before)

    watching = asyncio.create_task(watch())
    yield
    watching.cancel()
    assert max(gaps) < HELD_S


async def test_the_message_is_the_id(server: Server) -> None:
    with publishing(server.url) as publisher:
        await publisher.publish(TaskName.GENERATE, QUEUE, "job_1")
    (message,) = await server.messages()
    assert message["headers"]["task"] == "chat.generate"
    args, kwargs, _ = json.loads(b64decode(message["body"]))
    assert (args, kwargs) == (["job_1"], {})
    assert "job_1" not in json.dumps(message["headers"])


async def test_depth_counts_what_waits(server: Server) -> None:
    assert await depth(server.client, QUEUE) == 0
    with publishing(server.url) as publisher:
        await asyncio.gather(*(publisher.publish(TaskName.GENERATE, QUEUE, f"job_{n}") for n in range(100)))
    assert await depth(server.client, QUEUE) == 100


async def test_messages_keep_their_order(server: Server) -> None:
    with publishing(server.url) as publisher:
        await asyncio.gather(*(publisher.publish(TaskName.GENERATE, QUEUE, f"job_{n}") for n in range(50)))
    bodies = [json.loads(b64decode(message["body"]))[0][0] for message in reversed(await server.messages())]
    assert bodies == [f"job_{n}" for n in range(50)]


async def test_a_database_number_is_heeded(server: Server) -> None:
    with publishing(f"{server.url}?db=3") as publisher:
        await publisher.publish(TaskName.GENERATE, QUEUE, "job_1")
    assert not await server.messages()
    assert len(await server.messages(3)) == 1


async def test_publish_soon_arrives_and_close_waits_for_it(server: Server) -> None:
    with publishing(server.url) as publisher:
        for number in range(40):
            publisher.publish_soon(TaskName.GENERATE, QUEUE, f"job_{number}")
    assert await depth(server.client, QUEUE) == 40


async def test_many_publishers_do_not_hold_the_loop(server: Server) -> None:
    with publishing(server.url) as publisher:
        with called_here() as called:
            for _ in range(10):
                await asyncio.gather(*(publisher.publish(TaskName.GENERATE, QUEUE, "job_1") for _ in range(32)))
        assert Publisher.publish.__code__ in called
        assert Publisher._send.__code__ not in called
    assert await depth(server.client, QUEUE) == 320


async def test_a_broker_that_says_nothing_is_unavailable_in_time(deaf_url: str) -> None:
    with publishing(deaf_url) as publisher:
        began = time.monotonic()
        async with never_held():
            calls = (publisher.publish(TaskName.GENERATE, QUEUE, f"job_{n}") for n in range(40))
            ends = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(end) for end in ends} == {Unavailable}
        assert time.monotonic() - began < BOUND_S + HELD_S


async def test_a_broker_that_stops_answering_is_unavailable_then_serves_again(server: Server) -> None:
    with publishing(server.url) as publisher:
        await publisher.publish(TaskName.GENERATE, QUEUE, "job_1")
        server.process.send_signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            async with never_held():
                with pytest.raises(Unavailable):
                    await publisher.publish(TaskName.GENERATE, QUEUE, "job_2")
            assert time.monotonic() - began < BOUND_S + HELD_S
        finally:
            server.process.send_signal(signal.SIGCONT)
        await publisher.publish(TaskName.GENERATE, QUEUE, "job_3")


async def test_a_broker_that_refuses_is_unavailable_at_once(refused_url: str) -> None:
    with publishing(refused_url) as publisher:
        began = time.monotonic()
        with pytest.raises(Unavailable) as caught:
            await publisher.publish(TaskName.GENERATE, QUEUE, "job_1")
        assert time.monotonic() - began < BOUND_S / 2
        assert "127.0.0.1" not in caught.value.message


async def test_a_broker_that_restarted_is_not_noticed(server: Server) -> None:
    with publishing(server.url) as publisher:
        await publisher.publish(TaskName.GENERATE, QUEUE, "job_1")
        server.kill()
        server.start()
        await publisher.publish(TaskName.GENERATE, QUEUE, "job_2")
    assert await depth(server.client, QUEUE) == 1


async def test_publish_soon_never_raises(refused_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "WAITING", 3)
    with publishing(refused_url) as publisher:
        for number in range(50):
            publisher.publish_soon(TaskName.GENERATE, QUEUE, f"job_{number}")


async def test_a_swamped_publisher_refuses_at_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "WAITING", 2)
    publisher = Publisher(celery_app(server.url))  # not started: nothing leaves its queue
    publisher.publish_soon(TaskName.GENERATE, QUEUE, "job_1")
    publisher.publish_soon(TaskName.GENERATE, QUEUE, "job_2")
    with pytest.raises(Unavailable):
        await publisher.publish(TaskName.GENERATE, QUEUE, "job_3")


async def test_a_caller_that_gives_up_disturbs_nobody(server: Server) -> None:
    with publishing(server.url) as publisher:
        calls = [asyncio.create_task(publisher.publish(TaskName.GENERATE, QUEUE, f"job_{n}")) for n in range(20)]
        await asyncio.sleep(0)  # each has handed over its message and waits
        calls[7].cancel()
        ends = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(end) for end in ends if end is not None] == [asyncio.CancelledError]


async def test_a_closed_publisher_is_unavailable(server: Server) -> None:
    with publishing(server.url) as publisher:
        await publisher.publish(TaskName.GENERATE, QUEUE, "job_1")
    with pytest.raises(Unavailable):
        await publisher.publish(TaskName.GENERATE, QUEUE, "job_2")
