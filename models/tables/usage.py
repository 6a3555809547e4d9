"""What was used, by whom, and what did it cost?  A row an ended job, and sums of the rows that were folded into them.

`models.usage` alone writes here.  Costs are integer micro-dollars, so sums are exact in any order.
"""

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Integer, String, text
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import Base, Milliseconds

# Each in its words: SQLite uses the index only where a query says the same.
_UNFOLDED, _UNFOLDED_SQLITE = text("NOT folded"), text("folded = 0")


class Usage(Base):
    __tablename__ = "usage"

    job_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    """So that no job can be charged twice."""
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    payer_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    """The top-level account: the account itself, or the one above it."""
    tag: Mapped[str] = mapped_column(String(100))
    """Empty where there was none."""
    model: Mapped[str] = mapped_column(String(200))
    card: Mapped[str] = mapped_column(String(100))
    state: Mapped[str] = mapped_column(String(20))
    prompt_tokens: Mapped[int] = mapped_column(Integer)
    cached_tokens: Mapped[int] = mapped_column(Integer)
    completion_tokens: Mapped[int] = mapped_column(Integer)
    cost_micros: Mapped[int] = mapped_column(BigInteger)
    at_ms: Mapped[int] = mapped_column(Milliseconds)
    """When it ended."""
    month: Mapped[str] = mapped_column(String(7))
    """Of `at_ms`, as 2026-11 (UTC)."""
    folded: Mapped[bool] = mapped_column(Boolean)

    __table_args__ = (
        Index("ix_usage_payer", "payer_id", "at_ms"),
        Index("ix_usage_account", "account_id", "at_ms"),
        Index("ix_usage_unfolded", "payer_id", sqlite_where=_UNFOLDED_SQLITE, postgresql_where=_UNFOLDED),
    )


class UsageSum(Base):
    """Of all folded rows of an account, a month and a tag."""

    __tablename__ = "usage_sums"

    payer_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    month: Mapped[str] = mapped_column(String(7), primary_key=True)
    tag: Mapped[str] = mapped_column(String(100), primary_key=True)
    requests: Mapped[int] = mapped_column(BigInteger)
    prompt_tokens: Mapped[int] = mapped_column(BigInteger)
    cached_tokens: Mapped[int] = mapped_column(BigInteger)
    completion_tokens: Mapped[int] = mapped_column(BigInteger)
    cost_micros: Mapped[int] = mapped_column(BigInteger)
