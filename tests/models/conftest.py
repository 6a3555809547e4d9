"""Accounts and jobs in every state, made by the verbs that make them in life."""

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy.orm import Session

from models import ids, jobs
from models.accounts import create_account
from models.jobs import Claimed, Ending, NewJob
from models.lifecycle import JobState
from models.prefix import chain
from models.tables.access import Account
from models.tables.jobs import Door, Job
from models.transcripts import Spoken

NOW = 1_800_000_000_000
LOST = {"kind": "EngineLost", "message": "the worker was lost", "param": None, "code": "engine_lost"}


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
