"""The API as a process of its own, with a real Redis and each of the two databases, and no worker: nothing is ever answered."""

import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from api.app import opened
from api.deps import State
from api.stack import api_command
from infra.database import Database
from infra.ports import free_port
from infra.schema import migrate
from infra.settings import Settings
from models import accounts
from tests.plugins.databases import blank_postgres

KEY = "sk-tram-for-the-tests-0123456789"
START_S = 60.0
STOP_S = 20.0


@dataclass(frozen=True)
class Api:
    http: httpx2.Client
    port: int
    log: Path
    job_id: str
    """Of a job that stays queued."""


@pytest.fixture
def api(database_kind: str, request: pytest.FixtureRequest) -> Api:
    return request.getfixturevalue(f"api_{database_kind}")


@pytest.fixture(scope="session")
def api_sqlite(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("api-sqlite")
    with _serving(folder, f"sqlite:///{folder / 'test.db'}", redis_url) as served:
        yield served


@pytest.fixture(scope="session")
def api_postgres(redis_url: str, postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("api-postgres")
    with blank_postgres(postgres_server) as url, _serving(folder, url, redis_url) as served:
        yield served


@pytest.fixture
async def state(tmp_path: Path, redis_url: str) -> AsyncIterator[State]:
    """What the routes stand on, in this process, on SQLite."""
    url = f"sqlite:///{tmp_path}/test.db"
    migrate(url)
    settings = Settings(_env_file=None, data_dir=tmp_path, database_url=url, redis_url=redis_url)
    async with opened(settings) as state:
        yield state


@contextmanager
def _serving(folder: Path, database_url: str, redis_url: str) -> Iterator[Api]:
    settings = {
        "TRAM_DATA_DIR": str(folder),
        "TRAM_DATABASE_URL": database_url,
        "TRAM_REDIS_URL": redis_url,
        "TRAM_MODEL": "tram-demo",
        "TRAM_PORT": str(free_port("127.0.0.1")),
    }
    _prepare(database_url)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TRAM_")}
    port, log = int(settings["TRAM_PORT"]), folder / "api.log"
    command = api_command(Settings(_env_file=None, port=port))
    with ExitStack() as held:
        output = held.enter_context(log.open("wb"))
        held.enter_context(_process(*command, output=output, env=inherited | settings, cwd=folder))
        http = httpx2.Client(
            base_url=f"http://127.0.0.1:{port}",
            headers={"Authorization": f"Bearer {KEY}"},
            timeout=30,
            trust_env=False,
            limits=httpx2.Limits(max_keepalive_connections=0),  # what a request has broken must not meet the next
        )
        held.enter_context(http)
        _until_ready(http, log)
        job = http.post("/v1/jobs", json={"messages": [{"role": "user", "content": "Hello!"}]}).json()
        yield Api(http, port, log, job["id"])


def _prepare(database_url: str) -> None:
    migrate(database_url)
    database = Database(database_url)
    with database.transaction() as session:
        accounts.create_key(session, accounts.create_account(session, "tests", 1), "tests", 1, KEY)
    database.close()


@contextmanager
def _process(*command: object, output: object, **options: object) -> Iterator[None]:
    with subprocess.Popen([str(word) for word in command], stdout=output, stderr=output, **options) as process:
        yield
        process.terminate()
        process.wait(STOP_S)


def _until_ready(http: httpx2.Client, log: Path) -> None:
    give_up = time.monotonic() + START_S
    while time.monotonic() < give_up:
        try:
            if http.get("/ready").is_success:
                return
        except httpx2.TransportError:
            time.sleep(0.05)
    pytest.fail(f"the API did not start:\n{log.read_text()[-3000:]}", pytrace=False)
