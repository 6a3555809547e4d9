"""Accounts and jobs in every state, made by the verbs that make them in life; and two transactions that overlap."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.orm import Session

from infra.database import connect
from models import ids, jobs
from models.accounts import create_account
from models.handover import Claimed, Ending, NewJob
from models.lifecycle import JobState
from models.prefix import chain
from models.tables.access import Account
from models.tables.jobs import Door, Job
from models.transcripts import Spoken

NOW = 1_800_000_000_000
LOST = {"kind": "EngineLost", "message": "the worker was lost", "param": None, "code": "engine_lost"}
AT_ONCE = 8
WITHIN_S = 20.0


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """For tests that commit, with a connection for each of several threads."""
    made = connect(database_url, begin="BEGIN IMMEDIATE", connections=AT_ONCE)
    yield made
    made.dispose()


@pytest.fixture
def account(session: Session) -> str:
    return create_account(session, "ada", NOW)


def said(text: str, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": text}


def spoken(text: str) -> Spoken:
    return Spoken(said(text, "assistant"), "stop")


def new_job(session: Session, account: str, messages: Sequence[dict[str, Any]] = (), **changes: Any) -> NewJob:
    """Not stored yet."""
    messages = list(messages) or [said("hello")]
    facts: dict[str, Any] = {
        "id": ids.new("job"),
        "account_id": account,
        "door": Door.JOB,
        "model": "mistral-small",
        "card": "demo",
        "queue": "chat.demo",
        "created_ms": NOW,
        "parameters": {"temperature": 0.5},
        "messages": messages,
        "chain": chain(session.get_one(Account, account).salt, messages),
    }
    return NewJob(**(facts | changes))


def submitted(session: Session, account: str, messages: Sequence[dict[str, Any]] = (), **changes: Any) -> str:
    job = new_job(session, account, messages, **changes)
    jobs.submit(session, [job])
    return job.id


def claimed(session: Session, job_id: str, worker: str = "w1", now_ms: int = NOW) -> Claimed:
    found = jobs.claim(session, job_id, worker, now_ms)
    assert found is not None
    return found


def running(session: Session, account: str, messages: Sequence[dict[str, Any]] = (), **changes: Any) -> str:
    return claimed(session, submitted(session, account, messages, **changes)).id


def ended(session: Session, account: str, state: JobState = JobState.COMPLETED, **changes: Any) -> str:
    job_id = running(session, account, **changes)
    assert jobs.finish(session, job_id, 1, Ending(state, NOW))
    return job_id


def asked(
    session: Session, account: str, messages: Sequence[dict[str, Any]], *answers: str, at_ms: int = NOW, **changes: Any
) -> str:
    """A whole turn."""
    job_id = running(session, account, messages, **changes)
    assert jobs.finish(session, job_id, 1, Ending(JobState.COMPLETED, at_ms, answers=[*map(spoken, answers)]))
    return job_id


def row(session: Session, job_id: str) -> Job:
    """As the database has it now."""
    return session.get_one(Job, job_id, populate_existing=True)


def chooses_by_words(session: Session) -> bool:
    """SQLite does; Postgres goes by what it has counted, and of two indexes over a few rows takes the one or the other."""
    return session.get_bind().dialect.name == "sqlite"


def plan_of(session: Session, query: Callable[[Session], Any]) -> str:
    """How the database goes about the last statement of `query`."""
    engine, statements = session.get_bind(), []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        statements.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    query(session)
    event.remove(engine, "before_cursor_execute", note)
    statement, parameters = statements[-1]
    connection = session.connection()
    if connection.dialect.name == "sqlite":
        rows = connection.exec_driver_sql("EXPLAIN QUERY PLAN " + statement, parameters)
        return "\n".join(str(row) for row in rows)
    for way in ("seqscan", "bitmapscan", "sort"):  # taken for three rows; left off where there is any other
        connection.execute(text(f"SET LOCAL enable_{way} = off"))
    return "\n".join(row[0] for row in connection.exec_driver_sql("EXPLAIN " + statement, parameters))


def at_once(engine: Engine, *verbs: Callable[[Session], Any]) -> list[Any]:
    """Each in a transaction of its own, all let go together; what they told, in their order."""
    gate = threading.Barrier(len(verbs))

    def run(verb: Callable[[Session], Any]) -> Any:
        with Session(engine) as session:
            gate.wait(WITHIN_S)
            with session.begin():
                return verb(session)

    with ThreadPoolExecutor(len(verbs)) as threads:
        return list(threads.map(run, verbs, timeout=WITHIN_S))


def overlapping(engine: Engine, first: Callable[[Session], Any], second: Callable[[Session], Any]) -> tuple[Any, Any]:
    """What both tell, when the second begins while the first has done its work and is not yet committed; on Postgres."""
    told = []

    def follow() -> None:
        with Session(engine) as session, session.begin():
            told.append(second(session))

    follower = threading.Thread(target=follow)
    with Session(engine) as session, session.begin():
        answer = first(session)
        follower.start()
        _until_blocked(engine, follower)
    follower.join(WITHIN_S)
    return answer, told[0]


def _until_blocked(engine: Engine, thread: threading.Thread) -> None:
    """Or until it has got through."""
    query = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    until = time.monotonic() + WITHIN_S
    with engine.connect() as connection:
        while thread.is_alive() and not connection.scalar(query):
            assert time.monotonic() < until
            connection.rollback()
            thread.join(0.002)
