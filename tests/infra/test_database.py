"""Writes that wait are committed together, each with its own fate; a database that is away is waited for, not for ever."""

import asyncio
import threading
import time
from contextlib import contextmanager

import pytest
from sqlalchemy import delete, event, func, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from infra import database as module
from infra.database import BATCH, Database, connect
from models.errors import Conflict, Unavailable
from models.tables.access import Account, ApiKey
from models.tables.base import Base

WITHIN_S = 20.0


def add(name):
    """A verb that stores an account and tells its name."""

    def verb(session):
        row = {"id": name, "name": name, "salt": b"s", "webhook_secret": "w", "created_ms": 1}
        session.execute(insert(Account), [row])
        return name

    return verb


def names(session):
    return sorted(session.scalars(select(Account.id)))


def refuse(_):
    raise Conflict("not now")


def commits_of(database):
    """Grows with every commit of the writer from now on; a verb that asks nothing of the database makes none."""
    seen = []
    event.listen(database._writer, "commit", seen.append)
    return seen


@contextmanager
def busy_writer(database):
    """Holds the writing thread at a verb, so that what is handed in meanwhile waits together."""
    held, go_on = threading.Event(), threading.Event()

    def wait(_):
        held.set()
        assert go_on.wait(WITHIN_S)

    task = asyncio.create_task(database.write(wait))
    try:
        yield held
    finally:
        go_on.set()
        del task


async def together(database, *verbs):
    """What came of each, all of them having waited for the same commit."""
    with busy_writer(database) as held:
        await asyncio.to_thread(held.wait, WITHIN_S)
        writes = [asyncio.create_task(database.write(verb)) for verb in verbs]
        await asyncio.sleep(0)
    return await asyncio.gather(*writes, return_exceptions=True)


async def test_what_a_verb_tells_is_told_once_it_is_committed(database, migrated):
    assert await database.write(add("a")) == "a"
    with migrated.engine.connect() as other:
        assert other.scalar(select(func.count()).select_from(Account)) == 1
    assert await database.read(names) == ["a"]


async def test_verbs_that_wait_share_a_commit(database):
    verbs = [add(f"{number:03}") for number in range(BATCH)]
    commits = commits_of(database)
    told = await together(database, *verbs)
    assert told == [f"{number:03}" for number in range(BATCH)]
    assert len(commits) == 1
    assert await database.read(names) == told


async def test_a_commit_is_shared_by_so_many_at_most(database):
    commits = commits_of(database)
    told = await together(database, *(add(f"{number:03}") for number in range(2 * BATCH + 1)))
    assert len(commits) == 3
    assert len(await database.read(names)) == len(told) == 2 * BATCH + 1


async def test_a_verb_alone_waits_for_nobody(database):
    commits = commits_of(database)
    for name in "abc":
        await database.write(add(name))
    assert len(commits) == 3


@pytest.mark.parametrize("refusal", [Conflict, Unavailable])
async def test_a_verb_that_refuses_does_not_harm_its_neighbours(database, refusal):
    def refuses(_):
        raise refusal("not now")

    told = await together(database, add("a"), refuses, add("b"))
    assert (told[0], told[2]) == ("a", "b")
    assert isinstance(told[1], refusal)
    assert await database.read(names) == ["a", "b"]


async def test_a_verb_that_the_database_refuses_does_not_harm_its_neighbours(database):
    told = await together(database, add("a"), add("b"), add("a"), add("c"))
    assert [told[0], told[1], told[3]] == ["a", "b", "c"]
    assert isinstance(told[2], IntegrityError)
    assert await database.read(names) == ["a", "b", "c"]


async def test_a_refusal_undoes_what_its_verb_had_done(database):
    def half(session):
        add("half")(session)
        raise Conflict("on second thought")

    told = await together(database, half, add("a"))
    assert isinstance(told[0], Conflict)
    with pytest.raises(Conflict):
        await database.write(half)
    assert await database.read(names) == ["a"]


async def test_a_neighbour_of_a_refusal_is_run_again_and_takes_effect_once(database):
    runs = []

    def told_again(session):
        runs.append(session)
        return add("a")(session)

    await together(database, told_again, refuse)
    assert len(runs) == 2
    assert await database.read(names) == ["a"]


async def test_verbs_run_in_the_order_they_were_handed_in(database):
    """Alone and in batches, and when a batch is taken apart."""

    def last(session):
        return max(names(session), default=None)

    assert (await together(database, last, add("a"), last, add("b"), last))[::2] == [None, "a", "b"]
    told = await together(database, add("c"), refuse, last, add("d"), last)
    assert (told[2], told[4]) == ("c", "d")


@pytest.mark.parametrize("apart", [False, True])
async def test_a_caller_who_stopped_waiting_harms_nobody(database, apart):
    """Neither when all are told together, nor when a refusal has taken them apart."""
    with busy_writer(database) as held:
        await asyncio.to_thread(held.wait, WITHIN_S)
        gone, kept = asyncio.create_task(database.write(add("a"))), asyncio.create_task(database.write(add("b")))
        refused = asyncio.create_task(database.write(refuse if apart else add("c")))
        await asyncio.sleep(0)
        gone.cancel()
        refused.cancel()
    assert await asyncio.wait_for(kept, WITHIN_S) == "b"
    assert await database.read(names) == (["a", "b"] if apart else ["a", "b", "c"])


async def test_two_loops_write_through_one_database(database):
    def elsewhere():
        return asyncio.run(database.write(add("elsewhere")))

    with busy_writer(database) as held:
        await asyncio.to_thread(held.wait, WITHIN_S)
        here, there = (
            asyncio.create_task(database.write(add("here"))),
            asyncio.create_task(asyncio.to_thread(elsewhere)),
        )
        await asyncio.sleep(0)
    assert await asyncio.gather(here, there) == ["here", "elsewhere"]


async def test_a_loop_that_ends_before_its_verb_does_not_end_the_writer(database):
    loop = asyncio.new_event_loop()
    write = module._Write(add("forsaken"), loop.create_future(), loop)
    loop.close()
    database._waiting.put(write)
    assert await asyncio.wait_for(database.write(add("a")), WITHIN_S) == "a"
    assert await database.read(names) == ["a", "forsaken"]


async def test_what_a_query_writes_is_not_kept(database):
    await database.read(add("a"))
    assert await database.read(names) == []


async def test_rows_can_be_looked_at_when_their_query_is_over(database):
    await database.write(add("a"))
    found = await database.read(lambda session: session.get_one(Account, "a"))
    assert (found.name, found.salt) == ("a", b"s")


async def test_a_query_waits_for_no_write(database):
    await database.write(add("a"))
    with busy_writer(database) as held:
        await asyncio.to_thread(held.wait, WITHIN_S)
        slow = asyncio.create_task(database.write(add("b")))
        assert await database.read(names) == ["a"]
    await slow


async def test_foreign_keys_hold(database):
    row = {"id": "key_1", "account_id": "nobody", "name": "k", "shown": "sk", "digest": "d", "created_ms": 1}
    with pytest.raises(IntegrityError):
        await database.write(lambda session: session.execute(insert(ApiKey), [row]))


async def test_a_mistake_in_a_statement_is_told_at_once(database):
    began = time.monotonic()
    for run in (database.read, database.write):
        with pytest.raises(DBAPIError):
            await run(lambda session: session.execute(text("SELECT * FROM nothing")))
    assert time.monotonic() - began < module.PATIENCE_S / 2


def test_the_command_line_has_transactions_too(database, migrated):
    with database.transaction() as session:
        add("a")(session)
    with pytest.raises(Conflict), database.transaction() as session:
        refuse(add("b")(session))
    with migrated.engine.connect() as other:
        assert other.scalars(select(Account.id)).all() == ["a"]


async def test_closing_finishes_what_was_handed_in(database_url, migrated):
    database = Database(database_url)
    database.open()
    with busy_writer(database) as held:
        await asyncio.to_thread(held.wait, WITHIN_S)
        writes = [asyncio.create_task(database.write(add(f"{number:03}"))) for number in range(BATCH + 10)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(asyncio.to_thread(database.close))
        await asyncio.sleep(0)
    await asyncio.wait_for(closing, WITHIN_S)
    assert len(await asyncio.gather(*writes)) == BATCH + 10
    with migrated.engine.connect() as other:
        assert other.scalar(select(func.count()).select_from(Account)) == BATCH + 10


async def test_a_closed_database_says_so(database_url):
    database = Database(database_url)
    database.open()
    database.close()
    with pytest.raises(Unavailable):
        await asyncio.wait_for(database.write(add("a")), 2)
    database.close()


def test_a_database_that_was_never_opened_can_be_closed(database_url):
    Database(database_url).close()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE_S", 0.3)
    monkeypatch.setattr(module, "_PAUSE_S", 0.01)
    monkeypatch.setattr(module, "_BUSY_MS", 10)


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
async def test_a_file_that_another_process_keeps_locked_is_waited_for_and_then_given_up(impatient, database, migrated):
    with migrated.engine.begin():  # BEGIN IMMEDIATE
        began = time.monotonic()
        with pytest.raises(Unavailable):
            await database.write(add("a"))
        assert time.monotonic() - began >= 0.3
        assert await database.read(names) == []
    assert await database.write(add("a")) == "a"


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
async def test_all_who_wait_for_a_database_that_is_away_are_told_together(impatient, database, migrated):
    """Not one after the other, each after a patience of its own."""
    with migrated.engine.begin():
        began = time.monotonic()
        told = await asyncio.gather(*(database.write(add(f"{n}")) for n in range(100)), return_exceptions=True)
    assert all(isinstance(each, Unavailable) for each in told)
    assert time.monotonic() - began < 50 * module.PATIENCE_S


async def test_a_server_that_is_not_there_is_given_up(impatient, tmp_path):
    nowhere = Database(f"postgresql+psycopg://postgres@/postgres?host={tmp_path}")
    nowhere.open()
    for run in (nowhere.read, nowhere.write):
        with pytest.raises(Unavailable) as caught:
            await run(names)
        assert isinstance(caught.value.__cause__, OperationalError)
    await asyncio.to_thread(nowhere.close)


async def test_an_answer_that_was_lost_makes_a_guarded_verb_run_again(database, monkeypatch):
    """The commit has happened; the connection broke before that was heard."""
    commit, runs = database._commit, []

    def lossy(batch):
        told = commit(batch)
        runs.append(told)
        if len(runs) == 1:
            raise OperationalError("COMMIT", {}, Exception("locked"), connection_invalidated=True)
        return told

    def guarded(session):
        return session.get(Account, "a") is not None or add("a")(session)

    monkeypatch.setattr(database, "_commit", lossy)
    monkeypatch.setattr(module, "_PAUSE_S", 0.01)
    assert await database.write(guarded) is True
    assert runs == [["a"], [True]]


def test_every_connection_of_a_file_is_set_up(tmp_path):
    engine = connect(f"sqlite:///{tmp_path / 'x.db'}", begin="BEGIN", connections=2)
    with engine.connect() as one, engine.connect() as two:
        for connection in (one, two):
            for pragma, value in (("journal_mode", "wal"), ("foreign_keys", 1), ("busy_timeout", 10_000)):
                assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() == value
    engine.dispose()


def texts(folder):
    return b"".join(file.read_bytes() for file in folder.glob("log.db*"))


async def test_what_was_deleted_leaves_the_log_once_nobody_reads_it_and_nobody_waits_long(tmp_path):
    url = f"sqlite:///{tmp_path / 'log.db'}"
    engine = connect(url, begin="BEGIN", connections=1)
    Base.metadata.create_all(engine)
    opened = Database(url)
    opened.open()
    await opened.write(add("secretword"))
    with engine.begin() as reader:
        assert reader.scalars(select(Account.id)).all() == ["secretword"]
        await opened.write(lambda session: session.execute(delete(Account)))
        began_s = time.monotonic()
        assert not await opened.scrub()
        assert not await opened.scrub(patience_ms=0)
        assert time.monotonic() - began_s < module.PATIENCE_S / 2
        assert b"secretword" in texts(tmp_path)
    assert await opened.scrub(patience_ms=0)
    assert b"secretword" not in texts(tmp_path)
    with opened._reader.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == module._BUSY_MS
    opened.close()
    engine.dispose()


async def test_a_log_that_nobody_reads_is_emptied_and_postgres_has_none_of_ours(database):
    assert await database.scrub()


async def test_a_read_sees_one_moment_whatever_is_written_meanwhile(database):
    """A conversation is read in several statements; one that is being deleted would come apart."""
    begun, written = threading.Event(), threading.Event()

    def twice(session):
        before = names(session)
        begun.set()
        assert written.wait(WITHIN_S)
        return before, names(session)

    reading = asyncio.create_task(database.read(twice))
    await asyncio.to_thread(begun.wait, WITHIN_S)
    await database.write(add("ada"))
    written.set()
    assert await reading == ([], [])
    assert await database.read(names) == ["ada"]
