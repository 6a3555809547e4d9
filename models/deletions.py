"""How does a turn go, so that nothing of it is left?  What was said is removed; the row stays, for the books.

A message goes when no turn needs it any more: those shared with other turns of the tree stay for them.  A turn that came with a
file is in no books, so its row goes too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from models import marks
from models.lifecycle import FINAL, JobState
from models.tables.access import Account
from models.tables.jobs import Door, Job
from models.tables.transcripts import Answer, Conversation, Mark, Message, Turn

DOOMED_MOST = 20
"""Turns of a conversation that go in one transaction, which others wait for: about 80 ms on Postgres."""


@dataclass(frozen=True, slots=True)
class Doomed:
    """A job that is to go; its result's object goes first, so that a deletion cut short can be repeated."""

    job_id: str
    result_key: str | None


def delete_job(session: Session, job_id: str, now_ms: int) -> None:
    """Of an ended job of the caller's, whose result's object is gone."""
    job = session.scalars(select(Job).where(Job.id == job_id).with_for_update()).one()
    assert job.state in FINAL
    _alone(session, job.account_id)
    turn = session.get(Turn, job_id)
    _empty(session, job_id, now_ms)
    if turn is not None:
        conversation_id = turn.conversation_id
        _delete_turn(session, turn)
        marks.unmark(session, conversation_id)
        _close(session, conversation_id)


def doomed(session: Session, conversation_id: str) -> list[Doomed]:
    """The next turns to delete with it, the latest first."""
    rows = select(Job.id, Job.result_key).join(Turn, Turn.job_id == Job.id)
    rows = rows.where(Turn.conversation_id == conversation_id).order_by(Turn.job_id.desc()).limit(DOOMED_MOST)
    return [Doomed(*row) for row in session.execute(rows)]


def is_open(session: Session, conversation: Conversation) -> bool:
    """Whether a job that has not ended names it: its turn would bring back what is deleted."""
    waiting = select(Job.id).where(Job.account_id == conversation.account_id, Job.state.in_(_OPEN))
    mine = [Job.conversation_id == conversation.id]
    mine += [] if conversation.name is None else [Job.conversation_name == conversation.name]
    return session.scalar(waiting.where(or_(*mine)).limit(1)) is not None


def delete_turns(session: Session, conversation: Conversation, turns: Sequence[Doomed], now_ms: int) -> None:
    """Some turns of a conversation that goes as a whole; with the last of them it is gone."""
    names = sorted(turn.job_id for turn in turns)
    session.execute(select(Job.id).where(Job.id.in_(names)).order_by(Job.id).with_for_update())
    _alone(session, conversation.account_id)
    for turn in session.scalars(select(Turn).where(Turn.job_id.in_(names)).order_by(Turn.job_id.desc())).all():
        _empty(session, turn.job_id, now_ms)
        _delete_turn(session, turn)
    session.execute(delete(Mark).where(Mark.conversation_id == conversation.id))
    _close(session, conversation.id)


def _alone(session: Session, account_id: str) -> None:
    """With the account's tree: a turn that is being recorded stands on messages and a conversation that could go."""
    session.execute(select(Account.id).where(Account.id == account_id).with_for_update())


def _empty(session: Session, job_id: str, now_ms: int) -> None:
    session.execute(delete(Job).where(Job.id == job_id, Job.door == Door.IMPORT))
    nothing: dict[str, Any] = dict.fromkeys(("parameters", "messages", "chain", "result", "result_key"))
    nothing |= dict.fromkeys(("conversation_id", "conversation_name"))
    session.execute(update(Job).where(Job.id == job_id).values(deleted_ms=now_ms, meta={}, **nothing))


def _delete_turn(session: Session, turn: Turn) -> None:
    tips = [*session.scalars(select(Answer.hash).where(Answer.job_id == turn.job_id)), turn.prompt]
    session.execute(delete(Answer).where(Answer.job_id == turn.job_id))
    session.execute(delete(Turn).where(Turn.job_id == turn.job_id))
    for tip in tips:
        _prune(session, tip)


def _close(session: Session, conversation_id: str) -> None:
    if session.scalar(select(Turn.job_id).where(Turn.conversation_id == conversation_id).limit(1)) is None:
        session.execute(delete(Mark).where(Mark.conversation_id == conversation_id))
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


_OPEN = [state for state in JobState if state not in FINAL]
