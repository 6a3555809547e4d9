"""Servers at the outer wall (two that speak S3, a wire that can be cut, a webhook receiver), stores on them, and a client for
strangers' URLs.
"""

import asyncio
import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any, BinaryIO, Self
from uuid import uuid4

import boto3
import orjson
import pytest
import uvloop
from moto.server import ThreadedMotoServer

from infra.objects import DirectoryStore, S3Store
from infra.outbound import Outbound, Unreachable
from infra.parquet_rows import rows_in
from infra.ports import free_port
from tests.fakes.receiver import Receiver

START_S = 20.0
KEYS = {"AWS_ACCESS_KEY_ID": "tramkey", "AWS_SECRET_ACCESS_KEY": "tramsecret", "AWS_DEFAULT_REGION": "us-east-1"}


def pytest_asyncio_loop_factories(config, item):
    """Production runs uvloop, whose sockets fail in other words than asyncio's: the client must know both."""
    loops = {"asyncio": asyncio.new_event_loop}
    return {**loops, "uvloop": uvloop.new_event_loop} if item.path.name.startswith("test_outbound") else loops


@pytest.fixture
async def receiver():
    """A stranger's server on 127.0.0.1 (see tests/fakes/receiver.py)."""
    async with Receiver() as running:
        yield running


LOOPBACK = (ip_network("127.0.0.0/8"),)


@contextlib.asynccontextmanager
async def calling(allow):
    """A client that may call public addresses and those in `allow`."""
    client = Outbound(allow)
    await client.open()
    try:
        yield client
    finally:
        await client.close()


async def reason_of(client, url, **more):
    """Why a call gets no answer."""
    with pytest.raises(Unreachable) as caught:
        await client.post(url, b"{}", {}, **more)
    return caught.value.reason


class Rclone:
    """An S3 server of independent make over plain files: it checks signatures and ignores conditions."""

    def __init__(self, folder: Path) -> None:
        port = free_port("127.0.0.1")
        self.url = f"http://127.0.0.1:{port}"
        program = Path(sys.executable).with_name("rclone")
        auth = f"{KEYS['AWS_ACCESS_KEY_ID']},{KEYS['AWS_SECRET_ACCESS_KEY']}"
        self._process = subprocess.Popen(
            [program, "serve", "s3", "--config", "", "--addr", f"127.0.0.1:{port}", "--auth-key", auth, folder],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for_port(port)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(START_S)


def wait_for_port(port: int) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise TimeoutError(f"nothing listens on port {port}")


@pytest.fixture(scope="session")
def moto_url():
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def rclone_url(tmp_path_factory):
    server = Rclone(tmp_path_factory.mktemp("rclone"))
    yield server.url
    server.kill()


@pytest.fixture
def aws(monkeypatch, tmp_path):
    """Points boto3 at a server by its standard variables and makes a bucket there."""
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)

    def point(url: str, bucket: str = "") -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        if bucket:
            with contextlib.closing(boto3.session.Session().client("s3")) as client:
                client.create_bucket(Bucket=bucket)

    return point


@contextlib.asynccontextmanager
async def opened(store):
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
def bucket():
    return f"bucket-{uuid4().hex[:12]}"


@pytest.fixture
async def directory(tmp_path):
    async with opened(DirectoryStore(tmp_path / "objects")) as store:
        yield store


@pytest.fixture
async def moto(moto_url, aws, bucket):
    aws(moto_url, bucket)
    async with opened(S3Store(bucket, "some/prefix")) as store:
        yield store


@pytest.fixture(params=["directory", "moto", "rclone"])
async def store(request, tmp_path, aws, bucket):
    if request.param == "directory":
        made = DirectoryStore(tmp_path / "objects")
    else:
        aws(request.getfixturevalue(f"{request.param}_url"), bucket)
        made = S3Store(bucket, "some/prefix")
    async with opened(made):
        yield made


async def keys_of(store, prefix=""):
    return [key async for key in store.list(prefix)]


class Wire:
    """Carries bytes to a server and back, and can be cut: it stands between boto3 and a server that dies mid-way."""

    def __init__(self, upstream_url: str) -> None:
        self._upstream = upstream_url.removeprefix("http://").rsplit(":", 1)
        self._links: set[asyncio.Task[None]] = set()
        self.lose_answers = 0
        """How many successful answers from now on are lost: the server has done its work, and nobody hears of it."""
        self.cut_answer_after: int | None = None
        """Bytes of any answer that get through."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._link, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._links.add(asyncio.current_task())
        there, back = await asyncio.open_connection(*self._upstream)
        onward = asyncio.create_task(_pump(reader, back))
        try:
            await self._answer(there, writer)
        finally:
            onward.cancel()
            await asyncio.gather(onward, return_exceptions=True)
            writer.close()
            back.close()

    async def _answer(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed = 0
        while piece := await there.read(65536):
            if self.lose_answers and re.match(rb"HTTP/1\.\d 2", piece):
                self.lose_answers -= 1
                return
            if self.cut_answer_after is not None:
                piece = piece[: self.cut_answer_after - passed]
            passed += len(piece)
            writer.write(piece)
            await writer.drain()
            if passed == self.cut_answer_after:
                return


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65536):
        writer.write(piece)
        await writer.drain()


def probed_within_s(port: int) -> float:
    """For the idle connections of this machine's to a port: when the kernel will next ask whether the other side is there."""
    give_up = time.monotonic() + 5
    while "01" in (found := _timers(port)):  # what was sent is not acknowledged yet
        assert time.monotonic() < give_up
        time.sleep(0.01)
    assert found
    return found.get("02", float("inf"))


def _timers(port: int) -> dict[str, float]:
    """Kinds of timers on connections to a port, and the last of them, in seconds."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    there = [line[5].split(":") for line in lines if (line[2][-4:], line[3]) == (f"{port:04X}", "01")]
    return {kind: int(when, 16) / os.sysconf("SC_CLK_TCK") for kind, when in there}


@contextmanager
def stored(data: bytes) -> Iterator[BinaryIO]:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        yield file


def read_parquet(data: bytes, most_bytes: int = 4 << 20) -> list[dict[str, Any]]:
    with stored(data) as file:
        return [orjson.loads(row) for _, row in rows_in(file, most_bytes)]
