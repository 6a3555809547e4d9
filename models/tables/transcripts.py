"""What was said?  A tree of messages in which every message stands once, and the turns that walked it.

A message's key is its chain hash, so it names the whole path above it.  A conversation is a set of turns that continue one
another; a turn whose prompt ends in an earlier turn's answer is the next turn of that conversation.
"""

from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, ForeignKey, Index, Integer, String, text
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import Base, Milliseconds, Packed

_NAMED, _UNMARKED = text("name IS NOT NULL"), text("NOT marked")


class Message(Base):
    __tablename__ = "messages"

    hash: Mapped[str] = mapped_column(String(32), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), index=True)
    parent: Mapped[str | None] = mapped_column(String(32), index=True)
    depth: Mapped[int] = mapped_column(Integer)
    """0 is the first message of the path."""
    role: Mapped[str] = mapped_column(String(20))
    content: Mapped[dict[str, Any]] = mapped_column(Packed)
    """The message as it crossed the wire."""
    created_ms: Mapped[int] = mapped_column(Milliseconds)


class Conversation(Base):
    __tablename__ = "conversations"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    name: Mapped[str | None] = mapped_column(String(64))
    """What the client calls it, if it does."""
    title: Mapped[str] = mapped_column(String(200))
    meta: Mapped[dict[str, str]] = mapped_column(JSON, default=dict)
    created_ms: Mapped[int] = mapped_column(Milliseconds)
    updated_ms: Mapped[int] = mapped_column(Milliseconds)

    __table_args__ = (
        Index("ix_conversations_list", "account_id", "id"),
        Index("ix_conversations_updated", "account_id", "updated_ms", "id"),
        Index("ix_conversations_name", "account_id", "name", unique=True, sqlite_where=_NAMED, postgresql_where=_NAMED),
    )


class Turn(Base):
    __tablename__ = "turns"

    job_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id"))
    prompt: Mapped[str] = mapped_column(String(32), index=True)
    """Hash of the prompt's last message."""
    parent_job_id: Mapped[str | None] = mapped_column(String(32))
    """The turn this one continues, or (for a replay) asks again."""
    replay: Mapped[bool] = mapped_column(Boolean, default=False)
    marked: Mapped[bool] = mapped_column(Boolean, default=False)
    """Whether its conversation is found by what was said here."""
    created_ms: Mapped[int] = mapped_column(Milliseconds)

    __table_args__ = (
        Index("ix_turns_conversation", "conversation_id", "job_id"),
        Index("ix_turns_unmarked", "job_id", sqlite_where=_UNMARKED, postgresql_where=_UNMARKED),
    )


class Answer(Base):
    __tablename__ = "answers"

    job_id: Mapped[str] = mapped_column(ForeignKey("turns.job_id"), primary_key=True)
    choice: Mapped[int] = mapped_column(Integer, primary_key=True)
    hash: Mapped[str] = mapped_column(ForeignKey("messages.hash"), index=True)
    finish_reason: Mapped[str] = mapped_column(String(20))


class Mark(Base):
    """One thing by which a conversation is found: a word in it, a model that answered, a tag; see `models.marks`."""

    __tablename__ = "marks"

    mark: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id"), primary_key=True, index=True)

    __table_args__ = ({"sqlite_with_rowid": False},)
