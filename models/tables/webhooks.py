"""What must still be told to somebody's server, and what happened when it was tried?"""

from enum import StrEnum

from sqlalchemy import ForeignKey, Index, Integer, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import Base, Milliseconds, words

_PENDING = text("state = 'pending'")


class DeliveryState(StrEnum):
    PENDING = "pending"
    """Due at `due_ms`, the first time or again."""
    DELIVERED = "delivered"
    """The receiver answered 2xx."""
    FAILED = "failed"
    """The schedule is used up, or the receiver said 410 Gone."""


class Delivery(Base):
    __tablename__ = "deliveries"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    event_id: Mapped[str] = mapped_column(String(32), unique=True)
    """One an end state; the receiver's key to drop repeats."""
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"), index=True)
    batch_id: Mapped[str | None] = mapped_column(String(40))
    """Of what ended: one of the two."""
    type: Mapped[str] = mapped_column(String(60))
    url: Mapped[str] = mapped_column(String(2048))
    state: Mapped[DeliveryState] = mapped_column(words(DeliveryState), default=DeliveryState.PENDING)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    due_ms: Mapped[int | None] = mapped_column(Milliseconds)
    """While pending; a sender moves it past its own time limit before it calls out, which is its lease."""
    created_ms: Mapped[int] = mapped_column(Milliseconds)
    ended_ms: Mapped[int | None] = mapped_column(Milliseconds)

    __table_args__ = (
        Index("ix_deliveries_list", "account_id", "id"),
        Index("ix_deliveries_due", "due_ms", sqlite_where=_PENDING, postgresql_where=_PENDING),
    )


class DeliveryAttempt(Base):
    __tablename__ = "delivery_attempts"

    delivery_id: Mapped[str] = mapped_column(ForeignKey("deliveries.id"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    started_ms: Mapped[int] = mapped_column(Milliseconds)
    duration_ms: Mapped[int] = mapped_column(Integer)
    status: Mapped[int | None] = mapped_column(Integer)
    error: Mapped[str | None] = mapped_column(String(300))
    excerpt: Mapped[str | None] = mapped_column(Text)
    """The first of what the receiver answered, for its owner to read."""
