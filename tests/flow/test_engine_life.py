"""Does `tram worker` look after its engine?  A real one: killed, made to stand still, told to stop; and nobody's answer is lost.

Redis, API and upkeep run beside it, as on a host of their own, so that jobs outlive the worker.
"""

import logging
import os
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from infra import keeper
from infra.ports import free_port
from infra.redis_server import find_server
from tests.flow.engine import mortal
from tests.flow.sse import Event, events, text_of
from tests.flow.stack import FINAL, Stack, said, tram, until

log = logging.getLogger(__name__)
pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]
STREAMS, WAITING = 16, 30
LONG = (
    "What happens when I open a web page?",
    "Tell me a story.",
    "Name the european capitals",
    "What is a prefix cache?",
)
STUCK_S, DRAIN_S = 15.0, 2.0
STOP_S = DRAIN_S + 10.0 + 20.0  # the worker's, then the engine's
AGAIN_S = 60.0
ENDLESS = {"logit_bias": {"2": -100}, "max_tokens": 1500}
"""It may not end by itself."""
START_S = 240.0


class Host(Stack):
    """What stands for longer than a worker does, and a worker that a test may start and stop."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._redis_port = free_port("127.0.0.1")
        super().__init__(
            folder,
            TRAM_REDIS_URL=f"redis://127.0.0.1:{self._redis_port}/0",
            TRAM_MODEL="tram-demo",
            TRAM_ENGINE_STUCK_S=str(STUCK_S),
            TRAM_DRAIN_S=str(DRAIN_S),
        )
        self._beside: list[subprocess.Popen[bytes]] = []
        self.texts: dict[str, str] = {}

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        redis = ("--port", str(self._redis_port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
        self._beside.append(self._begun("redis", str(find_server()), *redis))
        self.command("migrate")
        self.key = self.command("keys", "create")
        self.http.headers["Authorization"] = f"Bearer {self.key}"
        self._beside += [self._begun(name, tram(), name) for name in ("api", "upkeep")]
        until(self._answers, 60)
        self.start_worker()
        self.texts = {text: self.said_to(text) for text in LONG}

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None and self._process.poll() is None:
            self.stop_worker()
        for process in reversed(self._beside):
            process.send_signal(number)
            process.wait(30)
        assert self.processes() == {}, "something was left running"

    def start_worker(self) -> None:
        """Returns once its engine runs and it takes jobs."""
        self._process = self._begun("worker", tram(), "worker")
        until(lambda: self._process.poll() is not None or self.told("worker  ready"), START_S)
        assert self._process.poll() is None, self.output("worker")

    def stop_worker(self) -> float:
        """How many seconds it took."""
        assert self._process is not None
        began = monotonic()
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(STOP_S + 10) == 0, self.output("worker")
        return monotonic() - began

    def told(self, words: str) -> int:
        return self.plain().count(words)

    def first_start_s(self) -> float:
        told = re.search(r"engine  ready after ([\d.]+) s", self.plain())
        assert told is not None
        return float(told[1])

    def plain(self) -> str:
        return re.sub(r"\x1b\[[\d;]*m", "", self.output("worker"))

    def output(self, name: str) -> str:
        return (self.folder / f"{name}.out").read_text(errors="replace")

    def engine_pid(self) -> int:
        """Of the server's process, which is the keeper's child."""
        [pid] = [pid for pid, _ in keeper.parents() if self._is_engine(pid)]
        return pid

    def scheduler_pid(self) -> int:
        [pid] = [
            pid
            for pid, parent in keeper.parents()
            if parent == self.engine_pid() and b"scheduler" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        return pid

    def below_worker(self) -> list[int]:
        """Every process that `tram worker` has started."""
        assert self._process is not None
        family = [self._process.pid]
        everybody = keeper.parents()
        for ancestor in family:
            family.extend(pid for pid, parent in everybody if parent == ancestor)
        return family[1:]

    def said_to(self, text: str) -> str:
        answer = self.chat(text, temperature=0)
        return answer["choices"][0]["message"]["content"]

    def well(self) -> None:
        """Returns once the engine of now takes requests."""
        until(lambda: self.told("engine  ready") == self.told("engine  starting\n"), START_S)

    def stream(self, text: str, began: "Future[None]", **fields: Any) -> list[Event]:
        body = {"messages": said(text), "stream": True, "temperature": 0, **fields}
        with self.http.stream("POST", "/v1/chat/completions", json=body, timeout=AGAIN_S * 4) as response:
            assert response.status_code == 200, response.read()
            seen = []
            for event in events(response):
                seen.append(event)
                if len(seen) == 3:
                    began.set_result(None)
            return seen

    def _is_engine(self, pid: int) -> bool:
        try:
            command, environment = (Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ"))
        except OSError:
            return False
        ours = f"TRAM_DATA_DIR={self._environment['TRAM_DATA_DIR']}".encode() in environment.split(b"\0")
        return ours and b"sglang.launch_server" in command and b"keeper.py" not in command

    def _begun(self, name: str, *command: str) -> "subprocess.Popen[bytes]":
        with (self.folder / f"{name}.out").open("wb") as output:
            return subprocess.Popen(
                mortal(*command), env=self._environment, stdout=output, stderr=output, cwd=self.folder
            )


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with Host(tmp_path_factory.mktemp("host")) as running:
        yield running


@contextmanager
def streaming(host: Host, **fields: Any) -> Iterator[list["Future[list[Event]]"]]:
    """Sixteen streams, each of which has begun."""
    host.well()
    begun: list[Future[None]] = [Future() for _ in range(STREAMS)]
    with ThreadPoolExecutor(STREAMS) as pool:
        running = [pool.submit(host.stream, LONG[one % len(LONG)], begun[one], **fields) for one in range(STREAMS)]
        for one in begun:
            one.result(AGAIN_S)
        yield running


def ends(host: Host, running: list["Future[list[Event]]"], *, whole: bool = True) -> Counter[str]:
    """How the streams ended; there is no way but a whole answer and an honest error.  `whole`: which answer is known."""
    counted: Counter[str] = Counter()
    for number, future in enumerate(running):
        stream = future.result(AGAIN_S * 4)
        known = host.texts[LONG[number % len(LONG)]]
        said_so = [event for event in stream if event.data != "[DONE]"]
        failure = said_so[-1].chunk.get("error")
        if failure is None:
            assert stream[-1].data == "[DONE]"
            assert text_of(stream) == known or not whole
            counted["whole"] += 1
            continue
        assert failure["code"], failure
        assert failure["message"], failure
        assert known.startswith(text_of(said_so[:-1])) or not whole
        counted[failure["code"]] += 1
    return counted


def test_an_engine_killed_under_sixteen_streams_comes_back(host: Host):
    with streaming(host) as running:
        ready, killed_at = host.told("engine  ready"), monotonic()
        os.kill(host.engine_pid(), signal.SIGKILL)
        until(lambda: host.told("engine  ready") > ready, START_S)
        ready_s = monotonic() - killed_at
        assert host.said_to(LONG[0]) == host.texts[LONG[0]]
        serves_s = monotonic() - killed_at
        counted = ends(host, running)
    log.info("ready again after %.1f s, serves again after %.1f s: %s", ready_s, serves_s, dict(counted))
    assert sum(counted.values()) == STREAMS
    assert serves_s < max(AGAIN_S, 1.5 * host.first_start_s()), "on a crowded machine every start is slow"
    assert host.told("engine  was killed by SIGKILL")


def test_an_engine_that_stands_still_is_killed_and_the_jobs_go_on(host: Host):
    with streaming(host, **ENDLESS) as running:
        ready, stopped_at = host.told("engine  ready"), monotonic()
        os.kill(host.scheduler_pid(), signal.SIGSTOP)
        until(lambda: host.told("requests, and no token, for"), STUCK_S * 4)
        noticed_s = monotonic() - stopped_at
        until(lambda: host.told("engine  ready") > ready, START_S)
        counted = ends(host, running, whole=False)
    log.info("noticed after %.1f s: %s", noticed_s, dict(counted))
    assert sum(counted.values()) == STREAMS
    assert noticed_s >= STUCK_S * 0.8
    assert re.search(
        r"engine  was killed: \d+ requests, and no token, for \d+ s", host.output("worker").replace("\n", " ")
    )


def test_an_idle_engine_that_stands_still_is_noticed_too(host: Host):
    host.well()
    ready = host.told("engine  ready")
    os.kill(host.scheduler_pid(), signal.SIGSTOP)
    until(lambda: host.told("it took no request, for"), STUCK_S * 4)
    until(lambda: host.told("engine  ready") > ready, START_S)
    assert host.said_to(LONG[0]) == host.texts[LONG[0]]


def test_a_worker_told_to_stop_loses_no_job(host: Host):
    """Sixteen streams and thirty jobs that wait: the next worker ends what this one has not."""
    with streaming(host) as running:
        made = [host.submit(LONG[number % len(LONG)], temperature=0) for number in range(WAITING)]
        below = host.below_worker()
        took_s = host.stop_worker()
        assert [pid for pid in below if Path(f"/proc/{pid}").exists()] == [], "something was left running"
        states = Counter(host.job(job_id)["state"] for job_id in made)
        host.start_worker()
        counted = ends(host, running)
    until(lambda: all(host.job(job_id)["state"] in FINAL for job_id in made), AGAIN_S * 3, pause_s=0.5)
    jobs = [host.job(job_id) for job_id in made]
    log.info("drained in %.1f s, then %s; streams: %s", took_s, dict(states), dict(counted))
    assert took_s < STOP_S
    assert states["queued"] > 0
    assert {job["state"] for job in jobs} == {"completed"}
    texts = [job["result"]["choices"][0]["message"]["content"] for job in jobs]
    assert texts == [host.texts[LONG[number % len(LONG)]] for number in range(WAITING)]
    assert sum(counted.values()) == STREAMS


def test_an_engine_that_cannot_start_ends_the_worker_with_its_reason(tmp_path: Path, host: Host):
    """In one line, with what to do, and with a status that makes whoever runs it try again."""
    broken = tmp_path / "env" / "bin"
    sglang = tmp_path / "env" / "lib" / "python3.11" / "site-packages" / "sglang"
    for folder in (broken, sglang):
        folder.mkdir(parents=True)
    (sglang / "launch_server.py").touch()
    (broken / "python").write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'sglang'\" >&2\nexit 1\n")
    (broken / "python").chmod(0o755)
    environment = host._environment | {
        "TRAM_ENGINE_ENV": str(tmp_path / "env"),
        "TRAM_DATA_DIR": str(tmp_path / "data"),
    }
    done = subprocess.run([tram(), "worker"], env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "  engine  ModuleNotFoundError: No module named 'sglang'\n" in done.stdout
    assert "the engine's environment lacks sglang" in " ".join(done.stdout.split())
