"""How does a turn go, so that nothing of it is left?  What was said is removed; the row stays, for the books.

A message goes when no turn needs it any more: those shared with other turns of the tree stay for them.
"""

from typing import Any

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from models.lifecycle import FINAL
from models.tables.access import Account
from models.tables.jobs import Job
from models.tables.transcripts import Answer, Conversation, Message, Turn


def delete_job(session: Session, job_id: str, now_ms: int) -> list[str]:
    """Of an ended job of the caller's; the object keys that are now nobody's."""
    job = session.scalars(select(Job).where(Job.id == job_id).with_for_update()).one()
    assert job.state in FINAL
    key = job.result_key  # the update below takes it from `job` too
    # Alone with the account's tree: a turn that is being recorded stands on messages and a conversation that could go.
    session.execute(select(Account.id).where(Account.id == job.account_id).with_for_update())
    turn = session.get(Turn, job_id)
    if turn is not None:
        _delete_turn(session, turn)
    nothing: dict[str, Any] = dict.fromkeys(("parameters", "messages", "chain", "result", "result_key"))
    step = update(Job).where(Job.id == job_id).values(deleted_ms=now_ms, meta={}, conversation_id=None, **nothing)
    session.execute(step)
    return [key] if key else []


def _delete_turn(session: Session, turn: Turn) -> None:
    tips = [*session.scalars(select(Answer.hash).where(Answer.job_id == turn.job_id)), turn.prompt]
    conversation_id = turn.conversation_id
    session.execute(delete(Answer).where(Answer.job_id == turn.job_id))
    session.execute(delete(Turn).where(Turn.job_id == turn.job_id))
    for tip in tips:
        _prune(session, tip)
    if session.scalar(select(Turn.job_id).where(Turn.conversation_id == conversation_id).limit(1)) is None:
        session.execute(delete(Conversation).where(Conversation.id == conversation_id))


def _prune(session: Session, tip: str) -> None:
    """From the leaf upward, as long as nothing hangs on it."""
    here: str | None = tip
    while here is not None and not _needed(session, here):
        parent = session.scalar(select(Message.parent).where(Message.hash == here))
        session.execute(delete(Message).where(Message.hash == here))
        here = parent


def _needed(session: Session, name: str) -> bool:
    child = select(Message.hash).where(Message.parent == name).limit(1)
    told = select(Turn.job_id).where(Turn.prompt == name).limit(1)
    answered = select(Answer.job_id).where(Answer.hash == name).limit(1)
    return session.scalar(select(or_(child.exists(), told.exists(), answered.exists()))) is True
