"""Both databases for whoever asks: `database_url`, `database`, `session`, `blank_url` run a test on SQLite and on Postgres; and a Redis.

One Postgres a run, started when the first test asks: xdist's workers each hold an end of a pipe to it, and it goes when the last
lets go or dies.  In it, and in SQLite, every worker has one migrated database, which is emptied after tests that commit.
`TRAM_TEST_PG_URL` names a server that runs already; its role must be allowed to create databases.
"""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Engine, create_engine, delete, make_url, text
from sqlalchemy.orm import Session

from infra.database import Database, connect
from infra.redis_server import find_server
from infra.schema import migrate
from models.tables.base import Base
from tests.plugins import postgres

END_S = 10.0
_keepers: list["subprocess.Popen[str]"] = []  # one may outlive the tests of the worker that started it


@dataclass(frozen=True, slots=True)
class Migrated:
    """A database with this release's schema; the engine is for rows that are never committed."""

    url: str
    engine: Engine


@pytest.fixture(params=["sqlite", "postgres"])
def database_kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def blank_url(database_kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database of the test's own, without tables."""
    if database_kind == "sqlite":
        yield f"sqlite:///{tmp_path / 'blank.db'}"
        return
    with blank_postgres(request.getfixturevalue("postgres_server")) as url:
        yield url


@pytest.fixture
def migrated(database_kind: str, request: pytest.FixtureRequest) -> Migrated:
    """For tests that commit nothing."""
    return request.getfixturevalue(f"migrated_{database_kind}")


@pytest.fixture
def session(migrated: Migrated) -> Iterator[Session]:
    """As a verb gets it, and rolled back after the test."""
    with Session(migrated.engine, expire_on_commit=False) as opened:
        yield opened


@pytest.fixture
def database_url(migrated: Migrated) -> Iterator[str]:
    """For tests that commit: it is emptied after each."""
    yield migrated.url
    with migrated.engine.begin() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(delete(table))


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    opened.open()
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One Redis for all tests of a worker that ask for no other."""
    socket = tmp_path_factory.mktemp("redis") / "socket"
    options = ("--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no")
    with subprocess.Popen([find_server(), *options], stdout=subprocess.DEVNULL) as server:
        yield f"unix://{socket}"
        server.terminate()
        server.wait(END_S)


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Migrated]:
    with _migrated(f"sqlite:///{tmp_path_factory.mktemp('sqlite') / 'test.db'}") as ready:
        yield ready


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server: str) -> Iterator[Migrated]:
    with blank_postgres(postgres_server) as url, _migrated(url) as ready:
        yield ready


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a Postgres server; what is made in it has names of its own."""
    if given := os.environ.get("TRAM_TEST_PG_URL"):
        yield given.replace("postgresql://", "postgresql+psycopg://", 1)
        return
    own = tmp_path_factory.getbasetemp()
    folder = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    with (folder / "postgres.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        url, rope = _join(folder) or _start(folder)
    yield url
    os.close(rope)
    for kept in _keepers:
        with suppress(subprocess.TimeoutExpired):
            kept.wait(END_S)
        kept.returncode = kept.returncode or 0  # whoever still uses it ends it; Python would complain that we did not


@contextmanager
def blank_postgres(server: str) -> Iterator[str]:
    name = f"tram_test_{uuid4().hex}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
        try:
            yield make_url(server).set(database=name).render_as_string(hide_password=False)
        finally:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@contextmanager
def _migrated(url: str) -> Iterator[Migrated]:
    migrate(url)
    engine = connect(url, begin="BEGIN IMMEDIATE", connections=1)
    yield Migrated(url, engine)
    engine.dispose()


def _join(folder: Path) -> tuple[str, int] | None:
    """The server another worker started, if it still runs."""
    with suppress(OSError):  # no such pipe yet, or nobody reads: the server is gone
        rope = os.open(folder / "postgres.pipe", os.O_WRONLY | os.O_NONBLOCK)
        return (folder / "postgres.url").read_text(), rope
    return None


def _start(folder: Path) -> tuple[str, int]:
    pipe = folder / "postgres.pipe"
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)
    rope = os.open(pipe, os.O_RDWR)
    command = [sys.executable, postgres.__file__]
    with pipe.open("rb") as end:
        kept = subprocess.Popen(command, stdin=end, stdout=subprocess.PIPE, text=True, start_new_session=True)
    _keepers.append(kept)
    assert kept.stdout is not None
    with kept.stdout as told:
        url = told.readline().strip()
    assert url, "Postgres did not start; what it said stands above"
    (folder / "postgres.url").write_text(url)
    return url, rope
