"""How is the database reached?  Verbs are synchronous functions of a session; this runs them, and is the only place that commits.

`write` hands a verb to one thread, which takes all that wait and commits them together (group commit): under load a commit is
shared by dozens of verbs, alone a verb waits for nobody.  When one of a batch raises, the batch is rolled back and each verb is
run again by itself, so a verb must touch nothing but its session.  `read` runs in a few other threads.

A synchronous driver in threads costs less than an async one: one thread hop a batch, not one a statement.  SQLite and Postgres
take the same road.  A database that is away is waited for, up to `PATIENCE_S`, then `Unavailable`.
"""

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, TypeVar

import orjson
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session

from models.errors import Unavailable

log = logging.getLogger(__name__)
T = TypeVar("T")

PATIENCE_S = 10.0
"""A restart of Postgres takes a few seconds; a caller should not wait much longer for an answer."""
ANSWER_S = 30.0
"""A statement of ours takes milliseconds; longer than this, and Postgres hangs or is not there."""
BATCH = 128
READERS = 4
_BUSY_MS = 10_000  # SQLite: other processes hold the write lock for milliseconds
SCRUB_MS = 250
"""What a deletion waits for readers of SQLite's log; meanwhile nobody writes."""
_PAUSE_S = 0.2
_PASSING = ("08", "40", "53", "57P")  # SQLSTATE: connection, rollback (as of a deadlock), resources, shutdown


class _Away(Unavailable):
    """The database's own, which no verb of a batch has raised."""


@dataclass(slots=True)
class _Write:
    verb: Callable[[Session], Any]
    future: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop


_Ended = tuple[_Write, Any, Exception | None]


class Database:
    def __init__(self, url: str) -> None:
        self._writer = connect(url, begin="BEGIN IMMEDIATE", connections=2, answer_s=ANSWER_S)
        self._reader = connect(url, begin="BEGIN", connections=READERS, answer_s=ANSWER_S, one_moment=True)
        self._waiting: SimpleQueue[_Write | None] = SimpleQueue()
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="database-read")
        self._thread = threading.Thread(target=self._write_for_ever, name="database-write", daemon=True)

    def open(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Finishes what was handed in, then lets go."""
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join()
        self._threads.shutdown()
        self._writer.dispose()
        self._reader.dispose()

    async def write(self, verb: Callable[[Session], T]) -> T:
        """Runs `verb` and returns once it is committed.  Raises what the verb raised, or Unavailable."""
        if not self._thread.is_alive():
            raise Unavailable("the database is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._waiting.put(_Write(verb, future, loop))
        return await future

    async def read(self, query: Callable[[Session], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, query)

    async def scrub(self, patience_ms: int = SCRUB_MS) -> bool:
        """What was deleted leaves SQLite's log of writes, too; the file's own pages were overwritten at once.  No word to Postgres.

        False: somebody is reading what the log holds, or writes, so it has to be done again.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._scrub, patience_ms)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """For callers without a loop (the command line)."""
        with Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    def _read(self, query: Callable[[Session], T]) -> T:
        def once() -> T:
            with Session(self._reader, expire_on_commit=False) as session:
                return query(session)

        return patiently(once)

    def _scrub(self, patience_ms: int) -> bool:
        if self._reader.dialect.name != "sqlite":
            return True
        with closing(self._reader.raw_connection()) as connection:
            cursor = connection.cursor()
            cursor.execute(f"PRAGMA busy_timeout={patience_ms}")
            try:
                busy = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            finally:
                cursor.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
        return not busy

    def _write_for_ever(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch = [first]
            while len(batch) < BATCH and not self._waiting.empty():
                following = self._waiting.get()
                if following is None:
                    self._waiting.put(None)
                    break
                batch.append(following)
            self._run(batch)

    def _run(self, batch: list[_Write]) -> None:
        try:
            results = patiently(lambda: self._commit(batch))
        except Exception as error:  # noqa: BLE001 -- whatever it is belongs to who handed the verb in
            if len(batch) == 1 or isinstance(error, _Away):  # alone, each would wait as long again
                return _tell([(write, None, error) for write in batch])
            for write in batch:
                self._run([write])
            return None
        return _tell([(write, result, None) for write, result in zip(batch, results, strict=True)])

    def _commit(self, batch: list[_Write]) -> list[Any]:
        with Session(self._writer, expire_on_commit=False) as session, session.begin():
            return [write.verb(session) for write in batch]


def patiently(once: Callable[[], T]) -> T:
    """Again while the database is away; a commit whose answer was lost is repeated, which guarded verbs bear."""
    give_up = time.monotonic() + PATIENCE_S
    while True:
        try:
            return once()
        except DBAPIError as error:
            if not _away(error):
                raise
            if time.monotonic() > give_up:
                raise _Away("the database does not answer") from error
            log.warning("the database is away, trying again: %s", error.orig)
            time.sleep(_PAUSE_S)


def _away(error: DBAPIError) -> bool:
    """Whether the same might succeed a moment later: the connection was lost or not to be had, or others stood in the way."""
    if isinstance(error.orig, sqlite3.OperationalError):
        return "locked" in str(error.orig)
    if error.connection_invalidated or (error.statement is None and isinstance(error, OperationalError)):
        return True
    return (getattr(error.orig, "sqlstate", None) or "").startswith(_PASSING)


def _tell(ended: list[_Ended]) -> None:
    """One wake-up a loop, whatever the number of its verbs."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Ended]] = {}
    for each in ended:
        by_loop.setdefault(each[0].loop, []).append(each)
    for loop, told in by_loop.items():
        with suppress(RuntimeError):  # the loop is closed, so nobody waits any more
            loop.call_soon_threadsafe(_resolve, told)


def _resolve(told: list[_Ended]) -> None:
    for write, result, error in told:
        if write.future.done():
            continue
        if error is None:
            write.future.set_result(result)
        else:
            write.future.set_exception(error)


def connect(
    url: str, *, begin: str, connections: int, answer_s: float | None = None, one_moment: bool = False
) -> Engine:
    """`answer_s`: how long Postgres may take for a statement; None, as for migrations: as long as it likes.

    `one_moment`: all that a transaction reads is of its beginning, as always on SQLite.
    """
    pool: dict[str, Any] = {"pool_size": connections, "max_overflow": 0, "json_serializer": _json}
    if url.startswith("sqlite"):
        engine = create_engine(url, connect_args={"check_same_thread": False}, **pool)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
        return engine
    from infra import postgres  # noqa: PLC0415 -- SQLite does without its driver

    if one_moment:
        pool["isolation_level"] = "REPEATABLE READ"
    engine = create_engine(url, pool_pre_ping=True, connect_args=postgres.OPTIONS, **pool)
    event.listen(engine, "handle_error", postgres.give_up_standby)
    if answer_s is not None:
        event.listen(engine, "do_connect", postgres.connecting(answer_s))
    return engine


def _json(value: Any) -> str:
    """In plain UTF-8: SQLite does not find a key that is written with escapes."""
    return orjson.dumps(value).decode()


def _prepare_sqlite(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves: the driver's own would start too late to lock
    # secure_delete: what is deleted is overwritten, and nobody finds it in the file
    for pragma in (
        f"busy_timeout={_BUSY_MS}",
        "journal_mode=WAL",
        "secure_delete=ON",
        "synchronous=NORMAL",
        "foreign_keys=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")
