"""A whole Tramontane for tests: `tram up` as a child, seen only from outside (HTTP, signals, /proc).

with Stack(folder, engine, TRAM_CONCURRENCY="8") as stack:
    stack.http.post("/v1/jobs", json={...})
    stack.kill("worker")            # SIGKILL to the process itself; its supervisor starts another
"""

import math
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

import httpx2
from redis import Redis

from infra.ports import free_port
from models.placement import queues_of
from tests.flow.engine import Engine, mortal
from tests.flow.sse import Event, events

KEY = "sk-tram-for-the-tests-0123456789"
START_S = 120.0
STOP_S = 60.0
FINAL = {"completed", "failed", "cancelled", "expired"}
PROGRAMS = {
    "redis": "valkey-server|redis-server",
    "worker": r"celery.*workers\.app",
    "upkeep": r"workers\.upkeep",
    "api": r"uvicorn.*api\.app",
}


class Stack:
    def __init__(self, folder: Path, engine: Engine | None = None, **settings: str) -> None:
        self.folder, self._engine = folder, engine
        self.port = free_port("127.0.0.1")
        self.url = f"http://127.0.0.1:{self.port}"
        self.key = KEY
        own = {"TRAM_DATA_DIR": str(folder / "data"), "TRAM_PORT": str(self.port), "TRAM_API_KEY": KEY}
        joined = {"TRAM_ENGINE_URL": engine.url} if engine else {}
        self._environment = cleaned(os.environ) | own | joined | settings
        self._process: subprocess.Popen[bytes] | None = None
        self.http = self.client(KEY)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.http.close()

    @property
    def engine(self) -> Engine:
        assert self._engine is not None, "this one runs on the real engine"
        return self._engine

    def client(self, key: str) -> httpx2.Client:
        headers = {"Authorization": f"Bearer {key}"}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False)

    def start(self) -> None:
        """Returns once `tram up` says that it serves."""
        self.folder.mkdir(parents=True, exist_ok=True)
        told = self.folder / "up.log"
        with told.open("wb") as output:
            self._process = subprocess.Popen(
                mortal(tram(), "up"),
                env=self._environment,
                stdout=output,
                stderr=output,
                cwd=self.folder,
                start_new_session=True,
            )
        until(lambda: b"Tramontane serves" in told.read_bytes() or self._process.poll() is not None, START_S)
        assert self._process.poll() is None, told.read_text() + self.logs()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """In order, as Ctrl-C does it; nothing is left."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(number)
        assert self._process.wait(STOP_S) == 0, self.logs()
        assert self.processes() == {}, "something was left running"

    def kill_supervisor(self) -> None:
        """SIGKILL to `tram up` itself; returns when what it had started is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(STOP_S)
        until(lambda: self.processes() == {}, STOP_S)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """A signal to the one process that `name` stands for; its pid."""
        pid = self.processes()[name]
        os.kill(pid, number)
        return pid

    def restarted(self, name: str, old: int) -> None:
        """Returns when another process stands in its place, and serves."""
        until(lambda: self.processes().get(name, old) != old, START_S)
        if name == "api":
            until(self._answers, START_S)

    def _answers(self) -> bool:
        try:
            return self.http.get("/ready").is_success
        except httpx2.TransportError:
            return False

    def processes(self) -> dict[str, int]:
        """What runs of this stack, by name: found by its data directory, since pids are the supervisor's own business."""
        folder = self._environment["TRAM_DATA_DIR"].encode()
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            command, environment = _read(entry / "cmdline"), _read(entry / "environ")
            # Valkey writes its title over both: there the folder stands in its socket's path.
            ours = b"TRAM_DATA_DIR=" + folder in environment.split(b"\0") or folder + b"/redis.sock" in command
            if not ours or b"keeper.py" in command:
                continue
            words = command.replace(b"\0", b" ").decode(errors="replace")
            found |= {name: int(entry.name) for name, pattern in PROGRAMS.items() if re.search(pattern, words)}
        return found

    def log(self, name: str) -> str:
        return (self.folder / "data" / "logs" / f"{name}.log").read_text(errors="replace")

    def logs(self) -> str:
        files = sorted((self.folder / "data" / "logs").glob("*.log"))
        return "\n".join(f"--- {file.name}\n{file.read_text(errors='replace')[-3000:]}" for file in files)

    def command(self, *words: str) -> str:
        """What `tram …` prints, with this stack's settings."""
        done = self._run(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def tries(self, *words: str) -> int:
        """Its exit status."""
        return self._run(*words).returncode

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            (tram(), *words),
            check=False,
            env=self._environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def submit(self, text: str, **fields: Any) -> str:
        """The new job's id."""
        answer = self.http.post("/v1/jobs", json={"messages": said(text), **fields})
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]

    def chat(self, text: str, **fields: Any) -> dict[str, Any]:
        answer = self.http.post("/v1/chat/completions", json={"messages": said(text), **fields})
        assert answer.status_code == 200, answer.text
        return answer.json()

    @contextmanager
    def streamed(self, text: str, **fields: Any) -> Iterator[httpx2.Response]:
        body = {"messages": said(text), "stream": True, **fields}
        with self.http.stream("POST", "/v1/chat/completions", json=body) as response:
            yield response

    def follow(self, job_id: str, last_event_id: str | None = None) -> list[Event]:
        """The job's events, to their end."""
        headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
        with self.http.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as response:
            assert response.status_code == 200, response.read()
            return list(events(response))

    def job(self, job_id: str) -> dict[str, Any]:
        return self.http.get(f"/v1/jobs/{job_id}").raise_for_status().json()

    def ended(self, job_id: str, within_s: float = 60.0) -> dict[str, Any]:
        """The job once it has ended."""
        until(lambda: self.job(job_id)["state"] in FINAL, within_s)
        return self.job(job_id)

    def replayed(self, **asked: Any) -> dict[str, Any]:
        """The replay once it has ended."""
        answer = self.http.post("/v1/replays", json=asked)
        assert answer.status_code == 202, answer.text
        path = answer.headers["location"]
        until(lambda: self.http.get(path).json()["ended_at"] is not None, 60)
        return self.http.get(path).json()

    def listed(self, path: str, **wanted: str | int) -> list[dict[str, Any]]:
        """All rows of a list, through its pages."""
        found: list[dict[str, Any]] = []
        while True:
            after = {"after": found[-1]["id"]} if found else {}
            page = self.http.get(path, params={"limit": 100, **wanted, **after}).raise_for_status().json()
            found += page["data"]
            if not page["has_more"]:
                return found

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Straight from the embedded database's file."""
        path = self.folder / "data" / "tramontane.db"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return connection.execute(query).fetchall()

    def queued(self, card: str) -> int:
        """Messages of its jobs that no worker has taken."""
        url = self._environment.get("TRAM_REDIS_URL") or f"unix://{self.folder / 'data' / 'redis.sock'}"
        with Redis.from_url(url) as redis:
            return sum(redis.llen(queue) for queue in queues_of(card))


def tram() -> str:
    return str(Path(sys.executable).with_name("tram"))


def cleaned(environment: Mapping[str, str]) -> dict[str, str]:
    """Without what would set this stack from outside."""
    return {name: value for name, value in environment.items() if not name.startswith("TRAM_")}


def said(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def deadline_in(seconds: int) -> int:
    """No sooner than that: what is cut off of a second would leave a slow machine too little to be accepted in."""
    return math.ceil(time.time()) + seconds


def until(true: Callable[[], object], within_s: float, pause_s: float = 0.05) -> None:
    """For what other processes do and tell nobody of; the one place where tests wait by the clock."""
    give_up = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < give_up, f"not so within {within_s:g} s"
        time.sleep(pause_s)


def _place(process: Path) -> Path | None:
    try:
        return (process / "cwd").readlink()
    except OSError:
        return None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # the process is gone, or not ours
        return b""
