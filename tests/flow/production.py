"""What `tram up` stands on in production, run by the test: Postgres, Redis over TCP, and an S3 server.  Each can die."""

import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Self

from infra.ports import free_port
from infra.redis_server import find_server
from tests.flow.engine import mortal
from tests.flow.stack import until
from tests.plugins.postgres import Cluster

STOP_S = 10.0
KEYS = {"AWS_ACCESS_KEY_ID": "tramkey", "AWS_SECRET_ACCESS_KEY": "tramsecret", "AWS_DEFAULT_REGION": "us-east-1"}
BUCKET = "tram"


class Production:
    def __init__(self, folder: Path) -> None:
        self._redis_port, self._s3_port = free_port("127.0.0.1"), free_port("127.0.0.1")
        self.objects = folder / BUCKET
        self.objects.mkdir(parents=True)

    def __enter__(self) -> Self:
        self._home = Path(
            tempfile.mkdtemp(prefix="tram-postgres-")
        )  # its socket's path must be short, and open to `nobody`
        self.database = Cluster(self._home)
        self.database.create()
        self.database.start()
        self.start_redis()
        self.start_s3()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_redis()
        self.stop_s3()
        self.database.stop()
        shutil.rmtree(self._home)

    @property
    def settings(self) -> dict[str, str]:
        return {
            "TRAM_DATABASE_URL": self.database.url(),
            "TRAM_REDIS_URL": f"redis://127.0.0.1:{self._redis_port}/0",
            "TRAM_OBJECTS_URL": f"s3://{BUCKET}/kept",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._s3_port}",
            **KEYS,
        }

    def start_redis(self) -> None:
        """Keeps nothing: each start is of an empty one."""
        options = ("--port", str(self._redis_port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
        self._redis = _started(str(find_server()), *options, port=self._redis_port)

    def stop_redis(self) -> None:
        _kill(self._redis)

    def start_s3(self) -> None:
        rclone = str(Path(sys.executable).with_name("rclone"))
        keys = f"{KEYS['AWS_ACCESS_KEY_ID']},{KEYS['AWS_SECRET_ACCESS_KEY']}"
        where = ("--config", "", "--addr", f"127.0.0.1:{self._s3_port}", "--auth-key", keys)
        self._s3 = _started(rclone, "serve", "s3", *where, str(self.objects.parent), port=self._s3_port)

    def stop_s3(self) -> None:
        _kill(self._s3)


def _started(*command: str, port: int) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(mortal(*command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: _listens(port), 20)
    return process


def _kill(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait(STOP_S)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
