"""How does a turn go, so that nothing of it is left?  What was said is removed; the row stays, for the books.

A message goes when no turn needs it any more: those shared with other turns of the tree stay for them.  A turn that came with a
file is in no books, so its row goes too.  What an answer's attempts have put into the object store goes when no row names it: a row that
was emptied stays due to `jobs.forget` until then.
"""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from models import marks
from models.errors import Conflict
from models.handover import Doomed
from models.lifecycle import FINAL, JobState
from models.tables.access import Account
from models.tables.jobs import Door, Job
from models.tables.transcripts import Answer, Conversation, Mark, Message, Turn

DOOMED_MOST = 20
"""Turns of a conversation that go in one transaction, which others wait for: about 80 ms on Postgres."""
_AT_ONCE = 100
"""Open jobs read at a time: an account may have thousands, each with a hash for every message."""


def delete_job(session: Session, job_id: str, now_ms: int) -> None:
    """Of an ended job of the caller's; of what is gone already, nothing."""
    job = session.scalars(select(Job).where(Job.id == job_id).with_for_update()).one_or_none()
    if job is None:  # it was imported, and somebody was quicker, or this is a repetition
        return
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
    rows = select(Job.id, Job.attempt).join(Turn, Turn.job_id == Job.id)
    rows = rows.where(Turn.conversation_id == conversation_id).order_by(Turn.job_id.desc()).limit(DOOMED_MOST)
    return [Doomed(*row) for row in session.execute(rows)]


def check_closed(session: Session, conversation: Conversation) -> None:
    """Raises Conflict while a job that has not ended would bring back what is deleted."""
    said = select(Answer.hash).join(Turn, Turn.job_id == Answer.job_id)
    _check_closed(session, conversation, set(session.scalars(said.where(Turn.conversation_id == conversation.id))))


def delete_turns(session: Session, conversation: Conversation, turns: Sequence[Doomed], now_ms: int) -> bool:
    """Some turns of a conversation that goes as a whole; whether it is gone with them.

    Raises Conflict for a job that has come meanwhile and goes on from one of them.
    """
    names = sorted(turn.job_id for turn in turns)
    session.execute(select(Job.id).where(Job.id.in_(names)).order_by(Job.id).with_for_update())
    _alone(session, conversation.account_id)  # no job comes from here on, and none ends
    _check_closed(session, conversation, set(session.scalars(select(Answer.hash).where(Answer.job_id.in_(names)))))
    for turn in session.scalars(select(Turn).where(Turn.job_id.in_(names)).order_by(Turn.job_id.desc())).all():
        _empty(session, turn.job_id, now_ms)
        _delete_turn(session, turn)
    session.execute(delete(Mark).where(Mark.conversation_id == conversation.id))
    return _close(session, conversation.id)


def _check_closed(session: Session, conversation: Conversation, said: Collection[str]) -> None:
    """Raises Conflict for a job that names the conversation, or has one of the messages `said` in its prompt, which it would record anew."""
    rows = select(Job.conversation_id, Job.conversation_name, Job.chain)
    rows = rows.where(Job.account_id == conversation.account_id, Job.state.in_(_OPEN), Job.door != Door.EVAL)
    for job in session.execute(rows, execution_options={"yield_per": _AT_ONCE}):
        named = conversation.name is not None and job.conversation_name == conversation.name
        if named or job.conversation_id == conversation.id or any(name in said for name in job.chain):
            raise Conflict("a job that goes on with it is still running; cancel that first", code="still_running")


def _alone(session: Session, account_id: str) -> None:
    """With the account's tree: a turn that is being recorded stands on messages and a conversation that could go."""
    session.execute(select(Account.id).where(Account.id == account_id).with_for_update())


def _empty(session: Session, job_id: str, now_ms: int) -> None:
    session.execute(delete(Job).where(Job.id == job_id, Job.door == Door.IMPORT))
    nothing: dict[str, Any] = dict.fromkeys(("parameters", "messages", "chain", "result", "result_key"))
    nothing |= dict.fromkeys(("conversation_id", "conversation_name"))
    gone = {"deleted_ms": now_ms, "forget_due_ms": now_ms, "meta": {}}
    session.execute(update(Job).where(Job.id == job_id).values(gone | nothing))


def _delete_turn(session: Session, turn: Turn) -> None:
    tips = [*session.scalars(select(Answer.hash).where(Answer.job_id == turn.job_id)), turn.prompt]
    session.execute(delete(Answer).where(Answer.job_id == turn.job_id))
    session.execute(delete(Turn).where(Turn.job_id == turn.job_id))
    for tip in tips:
        _prune(session, tip)


def _close(session: Session, conversation_id: str) -> bool:
    """Whether no turn is left in it; then it goes too."""
    if session.scalar(select(Turn.job_id).where(Turn.conversation_id == conversation_id).limit(1)) is not None:
        return False
    session.execute(delete(Mark).where(Mark.conversation_id == conversation_id))
    session.execute(delete(Conversation).where(Conversation.id == conversation_id))
    return True


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
