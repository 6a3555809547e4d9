"""Which conversations are there, and what are they called?

A turn joins the conversation that its request names, by id or by a name of the client's own, else the one whose answer it continues,
else it begins one.  A name is an account's own, and makes its conversation when it is first used.  Verbs never commit.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from sqlalchemy import Row, Table, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from models import ids, marks
from models.prefix import text_of
from models.tables.transcripts import Conversation, Turn

TITLE_CHARACTERS = 80


def joined(session: Session, job: Row[Any], continued: str | None, now_ms: int) -> str:
    """The id of the conversation that a job's turn belongs to; `continued` is that of the turn it goes on from."""
    if job.conversation_name is not None:
        return _named(session, job, now_ms)
    known = job.conversation_id or continued
    touched = {"known": known, "owner": job.account_id, "updated": now_ms}
    if known is not None and session.scalar(_TOUCHED, touched) is not None:  # it may be deleted meanwhile
        return str(known)
    row = _new(job, now_ms)
    session.execute(_CONVERSATIONS.insert(), [row])
    return str(row["id"])


def _named(session: Session, job: Row[Any], now_ms: int) -> str:
    """Two first turns may end at once: the second finds the row of the first."""
    session.execute(_MADE[session.get_bind().dialect.name], [_new(job, now_ms)])
    touched = {"called": job.conversation_name, "owner": job.account_id, "updated": now_ms}
    return str(session.scalars(_TOUCHED_BY_NAME, touched).one())


def _new(job: Row[Any], now_ms: int) -> dict[str, Any]:
    """Named by the time of its first turn, so that a range of times is one of ids."""
    row = {"id": ids.new("conv", job.created_ms), "account_id": job.account_id, "name": job.conversation_name}
    return row | {
        "title": title_of(job.messages),
        "meta": job.meta,
        "created_ms": job.created_ms,
        "updated_ms": now_ms,
    }


def title_of(messages: Sequence[Mapping[str, Any]]) -> str:
    """The begin of what was first asked."""
    asked = next((text_of(message.get("content")) for message in messages if message["role"] == "user"), "")
    text = " ".join(asked.split()) if isinstance(asked, str) else "(image)"
    return text if len(text) <= TITLE_CHARACTERS else text[: TITLE_CHARACTERS - 1] + "…"


def find(session: Session, account_id: str, conversation_id: str) -> Conversation | None:
    mine = select(Conversation).where(Conversation.id == conversation_id, Conversation.account_id == account_id)
    return session.scalar(mine)


def called(session: Session, account_id: str, name: str) -> Conversation | None:
    return session.scalar(select(Conversation).where(Conversation.account_id == account_id, Conversation.name == name))


def create(session: Session, account_id: str, columns: Mapping[str, Any], now_ms: int) -> Conversation:
    """An empty one, to be filled by turns that name it; one whose name is taken is that one."""
    row: dict[str, Any] = {
        "id": ids.new("conv", now_ms),
        "account_id": account_id,
        "name": None,
        "title": "",
        "meta": {},
    }
    row |= {"created_ms": now_ms, "updated_ms": now_ms, **columns}
    marker = marks.marker_of(session, account_id)
    session.execute(_MADE[session.get_bind().dialect.name], [row])
    name = row["name"]
    made = find(session, account_id, str(row["id"])) if name is None else called(session, account_id, str(name))
    assert made is not None
    marks.mark_label(session, marker, made)
    return made


def change(
    session: Session, account_id: str, conversation_id: str, columns: Mapping[str, Any], now_ms: int
) -> Conversation | None:
    """Its title or metadata.  None: there is no such conversation of the account's."""
    marker = marks.marker_of(session, account_id)
    mine = update(Conversation).where(Conversation.id == conversation_id, Conversation.account_id == account_id)
    changed: Conversation | None = session.scalar(mine.values(**columns, updated_ms=now_ms).returning(Conversation))
    if changed is None:
        return None
    marks.mark_label(session, marker, changed)
    # What it was called before is forgotten by the next sweep, which goes through all of its turns again.
    session.execute(update(Turn).where(Turn.conversation_id == conversation_id).values(marked=False))
    return changed


_CONVERSATIONS = cast("Table", Conversation.__table__)
_MADE: dict[str, Any] = {
    "postgresql": postgresql.insert(_CONVERSATIONS).on_conflict_do_nothing(),
    "sqlite": sqlite.insert(_CONVERSATIONS).on_conflict_do_nothing(),
}
_OF_OWNER = _CONVERSATIONS.update().where(_CONVERSATIONS.c.account_id == bindparam("owner"))
_OF_OWNER = _OF_OWNER.values(updated_ms=bindparam("updated")).returning(_CONVERSATIONS.c.id)
_TOUCHED = _OF_OWNER.where(_CONVERSATIONS.c.id == bindparam("known"))
_TOUCHED_BY_NAME = _OF_OWNER.where(_CONVERSATIONS.c.name == bindparam("called"))
