"""What does a service do whose database goes away in the middle of a write, or has other writers?"""

import asyncio
import os
import sys
import threading
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import pytest
from sqlalchemy import NullPool, create_engine, make_url, select, text, update
from sqlalchemy.exc import DBAPIError, OperationalError

from infra import database as module
from infra.database import Database
from infra.schema import migrate
from models.tables.access import Account
from tests.infra.test_database import WITHIN_S, add, names
from tests.plugins.postgres import Cluster

WRITES = 40
WRITER = """
import asyncio, sys
from functools import partial
from sqlalchemy import insert
from infra.database import Database
from models.tables.access import Account

def add(session, name):
    session.execute(insert(Account), [dict(id=name, name=name, salt=b"s", webhook_secret="w", created_ms=1)])

async def main(url, name, writes):
    database = Database(url)
    database.open()
    verbs = [partial(add, name=f"{name} {number:03}") for number in range(writes)]
    await asyncio.gather(*(database.write(verb) for verb in verbs[::2]))
    for verb in verbs[1::2]:
        await database.write(verb)
    database.close()

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""
only_postgres = pytest.mark.parametrize("database_kind", ["postgres"], indirect=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "_PAUSE_S", 0.02)


def cut_all(url):
    """As a server's restart does: every connection but our own ends."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        cut = connection.scalar(text(f"SELECT count(pg_terminate_backend(pid)) {others}"))
    engine.dispose()
    return cut


@only_postgres
async def test_connections_that_were_cut_are_made_anew(database, database_url, migrated, monkeypatch):
    """Before anything is asked of them: nobody has to run again."""
    monkeypatch.setattr(module, "PATIENCE_S", -1)
    migrated.engine.dispose()
    await database.write(add("a"))
    await database.read(names)
    assert cut_all(database_url) == 2
    assert await database.read(names) == ["a"]
    assert await database.write(add("b")) == "b"


@only_postgres
async def test_a_server_that_may_only_be_read_for_now_is_waited_for(blank_url):
    """As a standby, until it is promoted: a connection to it would stay one that cannot write."""
    migrate(blank_url)
    name, told = make_url(blank_url).database, []
    other = create_engine(
        blank_url,
        isolation_level="AUTOCOMMIT",
        connect_args={"options": "-c default_transaction_read_only=off"},
        poolclass=NullPool,
    )

    def say(setting):
        with other.connect() as connection:
            connection.execute(text(f'ALTER DATABASE "{name}" {setting}'))

    def promoted(session):
        try:
            return add("a")(session)
        except DBAPIError as error:
            told.append(error.orig.sqlstate)
            say("RESET default_transaction_read_only")
            raise

    say("SET default_transaction_read_only = on")
    database = Database(blank_url)
    database.open()
    try:
        assert await asyncio.wait_for(database.write(promoted), WITHIN_S) == "a"
        assert told == ["25006"]
    finally:
        await asyncio.to_thread(database.close)


@only_postgres
async def test_a_verb_that_is_cut_off_half_way_takes_effect_once(database, database_url, migrated):
    migrated.engine.dispose()
    half_way, go_on, runs = threading.Event(), threading.Event(), []

    def slow(session):
        runs.append(session)
        add("first half")(session)
        half_way.set()
        assert go_on.wait(WITHIN_S)
        return add("second half")(session)

    writing = asyncio.create_task(database.write(slow))
    await asyncio.to_thread(half_way.wait, WITHIN_S)
    assert await asyncio.to_thread(cut_all, database_url) == 1
    go_on.set()
    assert await writing == "second half"
    assert len(runs) == 2
    assert await database.read(names) == ["first half", "second half"]


@only_postgres
async def test_a_query_that_is_cut_off_is_asked_again(database, database_url, migrated):
    migrated.engine.dispose()
    await database.write(add("a"))
    begun, go_on = threading.Event(), threading.Event()

    def slow(session):
        session.execute(text("SELECT 1"))
        begun.set()
        assert go_on.wait(WITHIN_S)
        return names(session)

    reading = asyncio.create_task(database.read(slow))
    await asyncio.to_thread(begun.wait, WITHIN_S)
    assert await asyncio.to_thread(cut_all, database_url) == 2
    go_on.set()
    assert await reading == ["a"]


async def test_writes_go_on_when_a_server_comes_back():
    """Stopped as by a restart while writes wait; all of them are there afterwards, each once."""
    if "TRAM_TEST_PG_URL" in os.environ:
        pytest.skip("somebody else's server is not ours to stop")
    folder = Path(mkdtemp(prefix="tram-postgres-"))
    cluster = Cluster(folder)
    await asyncio.to_thread(cluster.create)
    await asyncio.to_thread(cluster.start)
    try:
        migrate(cluster.url())
        database = Database(cluster.url())
        database.open()
        await database.write(add("before"))
        await asyncio.to_thread(cluster.stop)
        writes = [asyncio.create_task(database.write(add(f"{number}"))) for number in range(5)]
        reading = asyncio.create_task(database.read(names))
        done, _ = await asyncio.wait(writes, timeout=0.3)
        assert not done
        await asyncio.to_thread(cluster.start)
        assert await asyncio.wait_for(asyncio.gather(*writes), WITHIN_S) == list("01234")
        assert (await reading)[-1] == "before"
        assert await database.read(names) == [*"01234", "before"]
        await asyncio.to_thread(database.close)
    finally:
        await asyncio.to_thread(cluster.stop)
        rmtree(folder)


async def test_several_processes_write_at_once(database, database_url):
    program = (sys.executable, "-c", WRITER, database_url)
    others = [await asyncio.create_subprocess_exec(*program, name, str(WRITES)) for name in ("one", "two")]
    for number in range(WRITES):
        await database.write(add(f"here {number:03}"))
    assert [await asyncio.wait_for(other.wait(), 3 * WITHIN_S) for other in others] == [0, 0]
    expected = sorted(f"{name} {number:03}" for name in ("one", "two", "here") for number in range(WRITES))
    assert await database.read(names) == expected


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
async def test_a_verb_that_looks_before_it_writes_is_not_overtaken(database, database_url):
    """It has the file to itself from its beginning; else it would have seen an old state, and SQLite would refuse its write."""
    other = Database(database_url)
    other.open()
    looked, go_on, runs = threading.Event(), threading.Event(), []

    def look_and_write(session):
        runs.append(names(session))
        looked.set()
        assert go_on.wait(WITHIN_S)
        return add("slow")(session)

    slow = asyncio.create_task(database.write(look_and_write))
    await asyncio.to_thread(looked.wait, WITHIN_S)
    quick = asyncio.create_task(other.write(add("quick")))
    done, _ = await asyncio.wait({quick}, timeout=0.1)
    go_on.set()
    assert not done
    assert await asyncio.gather(slow, quick) == ["slow", "quick"]
    assert runs == [[]]
    await asyncio.to_thread(other.close)


@only_postgres
async def test_a_statement_that_cannot_even_be_sent_holds_nobody_up(database):
    """It fails as a lost connection does, in Postgres' words, but will not succeed a moment later."""
    too_many = select(Account.id).where(Account.id.in_([str(number) for number in range(70_000)]))
    for run in (database.read, database.write):
        with pytest.raises(OperationalError):
            await asyncio.wait_for(run(lambda session: session.execute(too_many)), module.PATIENCE_S / 2)


@only_postgres
async def test_two_writers_that_lock_each_other_out_both_come_through(database_url):
    """Postgres ends one of them; it runs again."""
    url = database_url + "&options=-c%20deadlock_timeout%3D20ms"
    one, other = Database(url), Database(url)
    for each in (one, other):
        each.open()
    await one.write(add("a"))
    await one.write(add("b"))
    met = threading.Barrier(2)
    runs = []

    def crosswise(first, second):
        def verb(session):
            runs.append(first)
            session.execute(update(Account).where(Account.id == first).values(name=Account.name + "1"))
            if len(runs) <= 2:
                met.wait(WITHIN_S)
            session.execute(update(Account).where(Account.id == second).values(name=Account.name + "2"))

        return verb

    await asyncio.gather(one.write(crosswise("a", "b")), other.write(crosswise("b", "a")))
    assert len(runs) == 3
    found = await one.read(lambda session: session.scalars(select(Account.name).order_by(Account.id)).all())
    assert [sorted(name) for name in found] == [["1", "2", "a"], ["1", "2", "b"]]
    for each in (one, other):
        await asyncio.to_thread(each.close)
