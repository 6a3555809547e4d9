"""What do tests anywhere share?  One real engine a run, started when the first test asks for it.

Under xdist the workers share it: each holds an end of a pipe, and the keeper on the other end stops the engine when the last of
them lets go or dies.  `TRAM_TEST_ENGINE_URL` names an engine that runs already and is left running.
"""

import fcntl
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from infra import keeper
from infra.engine import server
from infra.engine.environment import problem
from infra.ports import free_port
from infra.settings import Settings

pytest_plugins = ["tests.plugins.databases", "tests.plugins.scheduling"]

START_S = 240.0  # 12 s on idle cores; others may start at the same time, and need the same cores
ENGINE_TEST_S = 400.0
"""For a test on the real engine: the first one pays for its start."""
PAUSE_S = 0.2
END_S = 10.0

_keepers: list[subprocess.Popen[bytes]] = []  # one may outlive the tests of the worker that started it


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("engine"):
            given = item.get_closest_marker("timeout")
            least = max(ENGINE_TEST_S, given.args[0] if given else 0)
            item.add_marker(pytest.mark.timeout(least), append=False)


@pytest.fixture(scope="session")
def engine_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Root of a real SGLang that serves `tram-demo` on the CPU."""
    if given := os.environ.get("TRAM_TEST_ENGINE_URL"):
        yield given
        return
    own = tmp_path_factory.getbasetemp()
    folder = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    with _alone(folder):
        url, rope = _join(folder) or _start(folder)
    yield url
    os.close(rope)
    for kept in _keepers:
        with suppress(subprocess.TimeoutExpired):
            kept.wait(END_S)
        kept.returncode = kept.returncode or 0  # whoever still uses it ends it; Python would complain that we did not


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / "engine.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _join(folder: Path) -> tuple[str, int] | None:
    """The engine another worker started, if it still runs."""
    for pipe in folder.glob("engine-*"):
        url = f"http://127.0.0.1:{pipe.name.removeprefix('engine-')}"
        with suppress(OSError):  # nobody reads: the keeper is gone
            rope = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
            if _is_ready(url):
                return url, rope
            os.close(rope)
    return None


def _start(folder: Path) -> tuple[str, int]:
    card, env, port = server.default_card("cpu"), Settings(_env_file=None).engine_environment, free_port("127.0.0.1")
    if reason := problem(env):
        pytest.fail(f"{reason} `make setup` installs it; `-m 'not engine'` leaves these tests out.")
    changes = server.variables(card, "cpu")
    variables = {name: value for name, value in {**os.environ, **changes}.items() if value is not None}
    pipe, log = folder / f"engine-{port}", folder / "engine.log"
    os.mkfifo(pipe)
    rope = os.open(pipe, os.O_RDWR)
    argv = [
        sys.executable,
        "-I",
        "-S",
        keeper.__file__,
        "0",
        "",
        *server.command(card, env=env, port=port, device="cpu"),
    ]
    with pipe.open("rb") as end, log.open("wb") as output:
        kept = subprocess.Popen(argv, env=variables, stdin=end, stdout=output, stderr=output, start_new_session=True)
    _keepers.append(kept)
    url = f"http://127.0.0.1:{port}"
    for _ in range(int(START_S / PAUSE_S)):
        with suppress(subprocess.TimeoutExpired):
            kept.wait(PAUSE_S)
            break
        if _is_ready(url):
            return url, rope
    os.close(rope)
    pytest.fail(f"the engine did not start:\n{log.read_text(errors='replace')[-4000:]}")


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/ready", timeout=1) as answer:
            return answer.status == 200
    except OSError:
        return False
