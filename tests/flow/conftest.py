"""Stacks to test against: one on the real engine, shared by the run's worker; others on the scriptable one, for faults."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from tests.flow.stack import STOP_S, Stack

FAKE_ENGINE = Path(__file__).parents[1] / "fakes" / "engine.py"


@dataclass(frozen=True)
class Engine:
    """The scriptable engine as a process; what it has seen is asked over HTTP."""

    url: str
    pid: int

    def state(self) -> dict[str, int]:
        return httpx2.get(f"{self.url}/_state", trust_env=False).raise_for_status().json()

    def wait(self, **wanted: int) -> dict[str, int]:
        """Its state once it is as wanted, such as `running=0`, `min_finished=5`; raises after `timeout_s`."""
        query = {"timeout_s": 20} | wanted
        return httpx2.get(f"{self.url}/_wait", params=query, timeout=60, trust_env=False).raise_for_status().json()


@pytest.fixture
def engine() -> Iterator[Engine]:
    command = (sys.executable, str(FAKE_ENGINE), "--port", "0")
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        yield Engine(told["url"], process.pid)
        process.terminate()
        process.wait(STOP_S)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """Starts a stack of the test's own; all are stopped after it."""
    with ExitStack() as held:
        yield lambda name="one", **settings: held.enter_context(Stack(tmp_path / name, **settings))


@pytest.fixture
def faulty(start: Callable[..., Stack], engine: Engine) -> Stack:
    """A stack of the test's own on the scriptable engine."""
    return start(TRAM_ENGINE_URL=engine.url)


@pytest.fixture(scope="module")
def stack(engine_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The embedded stack on the real engine."""
    settings = {"TRAM_ENGINE_URL": engine_url, "TRAM_MODEL": "tram-demo", "TRAM_ENGINE_MODEL": "tram-demo"}
    with Stack(tmp_path_factory.mktemp("stack"), **settings) as running:
        yield running
