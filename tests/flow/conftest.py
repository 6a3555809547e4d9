"""Stacks to test against, each started when the first test asks for it.

`tram` is a stack on the scriptable engine, once as embedded and once on what production stands on; its tests run on both and
leave it as they found it.  `stack` is the embedded one on the real engine.  `faulty` is for tests that kill what it stands on.
"""

from collections.abc import Iterator

import pytest

from tests.flow.engine import Engine
from tests.flow.hooks import HOST, Hooks
from tests.flow.production import Production
from tests.flow.stack import Stack

CONCURRENCY = 8
"""Few enough that a test can fill it."""
SETTINGS = {"TRAM_CONCURRENCY": str(CONCURRENCY), "TRAM_DRAIN_S": "1", "TRAM_WEBHOOK_ALLOW": f"{HOST}/32"}


@pytest.fixture(params=["embedded", "production"])
def column(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def tram(column: str, request: pytest.FixtureRequest) -> Iterator[Stack]:
    shared: Stack = request.getfixturevalue(column)
    shared.engine.wait(running=0)
    yield shared
    for state in ("queued", "in_progress"):  # of a test that has failed
        for job in shared.listed("/v1/jobs", state=state):
            shared.http.delete(f"/v1/jobs/{job['id']}")


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Engine() as engine, Stack(tmp_path_factory.mktemp("embedded"), engine, **SETTINGS) as running:
        yield running


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    with Production(tmp_path_factory.mktemp("parts")) as running:
        yield running


@pytest.fixture(scope="session")
def production(tmp_path_factory: pytest.TempPathFactory, parts: Production) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("production")
    with Engine() as engine, Stack(folder, engine, **SETTINGS, **parts.settings) as running:
        yield running


@pytest.fixture(scope="session")
def priced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Of a model that has a price: 0.35 a prompt's token, 0.55 an answer's, in micro-dollars."""
    folder = tmp_path_factory.mktemp("priced")
    with Engine() as engine, Stack(folder, engine, **SETTINGS, TRAM_MODEL="tram-demo") as running:
        yield running


@pytest.fixture
def full(tram: Stack) -> Iterator[None]:
    """The worker holds as many jobs as it may, and they do not end: what comes now stays queued."""
    held = [tram.submit("!hang") for _ in range(CONCURRENCY)]
    tram.engine.wait(running=CONCURRENCY)
    yield
    for job_id in held:
        tram.http.delete(f"/v1/jobs/{job_id}").raise_for_status()
    tram.engine.wait(running=0)


@pytest.fixture
def hooks() -> Iterator[Hooks]:
    """A receiver of the test's own."""
    with Hooks() as receiving:
        yield receiving


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    settings = SETTINGS | {"TRAM_CONCURRENCY": "32"}
    with Engine() as engine, Stack(tmp_path_factory.mktemp("faulty"), engine, **settings) as running:
        yield running


@pytest.fixture(scope="session")
def stack(engine_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    settings = {"TRAM_ENGINE_URL": engine_url, "TRAM_MODEL": "tram-demo"}
    with Stack(tmp_path_factory.mktemp("stack"), **settings) as running:
        yield running


@pytest.fixture(scope="session")
def other_key(stack: Stack) -> str:
    """A key of another account."""
    return stack.command("keys", "create", "--account", "somebody else")
