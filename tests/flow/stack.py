"""A whole Tramontane for tests: `tram up` as a child, seen only from outside (HTTP, signals, /proc).

with Stack(folder, TRAM_ENGINE_URL=engine.url) as stack:
    stack.http.post("/v1/jobs", json={...})
    stack.kill("worker")            # SIGKILL to the process itself; its supervisor starts another
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx2

from infra.ports import free_port

KEY = "sk-tram-for-the-tests-0123456789"
START_S = 120.0
STOP_S = 60.0
PROGRAMS = {
    "redis": "valkey-server|redis-server",
    "worker": r"celery.*workers\.app",
    "upkeep": r"workers\.upkeep",
    "api": r"uvicorn.*api\.app",
    "engine": r"sglang\.launch_server",
}


class Stack:
    def __init__(self, folder: Path, *, port: int = 0, **settings: str) -> None:
        self.folder = folder
        self.port = port or free_port("127.0.0.1")
        self.url = f"http://127.0.0.1:{self.port}"
        self.key = KEY
        own = {"TRAM_DATA_DIR": str(folder / "data"), "TRAM_PORT": str(self.port), "TRAM_API_KEY": KEY}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TRAM_")}
        self._environment = inherited | own | settings
        self._process: subprocess.Popen[bytes] | None = None
        self.http = httpx2.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {KEY}"}, timeout=60, trust_env=False
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.http.close()

    def start(self) -> None:
        """Returns once `tram up` says that it serves."""
        self.folder.mkdir(parents=True, exist_ok=True)
        output = self.folder / "up.log"
        command = (str(Path(sys.executable).with_name("tram")), "up")
        with output.open("wb") as log:
            self._process = subprocess.Popen(
                command, env=self._environment, stdout=log, stderr=log, cwd=self.folder, start_new_session=True
            )
        until(lambda: b"Tramontane serves" in output.read_bytes() or self._process.poll() is not None, START_S)
        assert self._process.poll() is None, output.read_text() + self.logs()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(number)
        assert self._process.wait(STOP_S) == 0, self.logs()
        assert self.processes() == {}, "something was left running"

    def kill(self, name: str) -> int:
        """SIGKILL to the one process that `name` stands for; its pid."""
        pid = self.processes()[name]
        os.kill(pid, signal.SIGKILL)
        return pid

    def restarted(self, name: str, old: int, within_s: float = START_S) -> int:
        """The pid of the process that took its place."""
        until(lambda: self.processes().get(name, old) != old, within_s)
        return self.processes()[name]

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

    def logs(self) -> str:
        files = sorted((self.folder / "data" / "logs").glob("*.log"))
        return "\n".join(f"--- {file.name}\n{file.read_text(errors='replace')[-3000:]}" for file in files)

    def job(self, job_id: str) -> dict[str, Any]:
        return self.http.get(f"/v1/jobs/{job_id}").raise_for_status().json()

    def ended(self, job_id: str, within_s: float = 30.0) -> dict[str, Any]:
        """The job once it has ended."""
        until(lambda: self.job(job_id)["state"] not in {"queued", "in_progress"}, within_s)
        return self.job(job_id)

    def submit(self, text: str, **fields: Any) -> dict[str, Any]:
        answer = self.http.post("/v1/jobs", json={"messages": [{"role": "user", "content": text}], **fields})
        assert answer.status_code == 202, answer.text
        return answer.json()


def until(true: Callable[[], object], within_s: float, pause_s: float = 0.05) -> None:
    """For what other processes do and tell nobody of; the one place where tests wait by the clock."""
    give_up = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < give_up, f"not so within {within_s:g} s"
        time.sleep(pause_s)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # the process is gone, or not ours
        return b""
