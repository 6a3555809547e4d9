"""Which recorded turns were asked again, and how?  The answers are jobs; the verdicts are computed from the two results."""

from typing import Any

from sqlalchemy import ForeignKey, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import Base, Milliseconds, Packed


class Replay(Base):
    __tablename__ = "replays"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    source_job_id: Mapped[str | None] = mapped_column(String(32))
    source_conversation_id: Mapped[str | None] = mapped_column(String(32))
    target_model: Mapped[str | None] = mapped_column(String(200))
    overrides: Mapped[dict[str, Any]] = mapped_column(Packed, default=dict)
    turns: Mapped[int] = mapped_column(Integer)
    created_ms: Mapped[int] = mapped_column(Milliseconds)

    __table_args__ = (Index("ix_replays_list", "account_id", "id"),)
