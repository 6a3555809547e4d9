"""Which jobs belong together?  A batch: rows that become jobs, window by window, each counted once.

A batch of somebody's file, a replay and an eval's run are the same thing here; what is its own to each kind has a table of that kind,
under the batch's id.  `models.batches` alone writes these columns after the insert.
"""

from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, String, text
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import Base, Milliseconds, Packed, words


class BatchKind(StrEnum):
    FILE = "file"
    """`/v1/batches`: the rows of an uploaded file."""
    REPLAY = "replay"
    """`/v1/replays`: recorded turns."""
    EVAL = "eval"
    """A run of an eval: samples, and what graders ask about them."""


class BatchState(StrEnum):
    """OpenAI's words; `models.batches.TRANSITIONS` says which follows which."""

    VALIDATING = "validating"
    """Its rows are being made."""
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    """Every row has ended; what the whole comes to is being written."""
    COMPLETED = "completed"
    FAILED = "failed"
    """There were no rows to be made of what was sent."""
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


class RowState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    """It is a job, which has not ended."""
    COMPLETED = "completed"
    FAILED = "failed"
    """Its job failed, or it never became one; `error` says why."""


_OPEN = text("ended_ms IS NULL")
_ENDED = text("ended_no IS NOT NULL")
_WAITING, _RUNNING = text("state = 'waiting'"), text("state = 'running'")


class Batch(Base):
    __tablename__ = "batches"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    tag: Mapped[str | None] = mapped_column(String(100))
    kind: Mapped[BatchKind] = mapped_column(words(BatchKind))
    state: Mapped[BatchState] = mapped_column(words(BatchState))
    spec: Mapped[dict[str, Any]] = mapped_column(Packed)
    """What its kind has to remember of the request."""
    meta: Mapped[dict[str, str]] = mapped_column(JSON, default=dict)
    webhook_url: Mapped[str | None] = mapped_column(String(2048))
    total: Mapped[int] = mapped_column(Integer, default=0)
    completed: Mapped[int] = mapped_column(Integer, default=0)
    failed: Mapped[int] = mapped_column(Integer, default=0)
    prompt_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    completion_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    cached_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    cost_micros: Mapped[int] = mapped_column(BigInteger, default=0)
    created_ms: Mapped[int] = mapped_column(Milliseconds)
    started_ms: Mapped[int | None] = mapped_column(Milliseconds)
    """When its rows were there."""
    expires_ms: Mapped[int | None] = mapped_column(Milliseconds)
    cancelling_ms: Mapped[int | None] = mapped_column(Milliseconds)
    expired_ms: Mapped[int | None] = mapped_column(Milliseconds)
    """When its time was over while rows still waited or ran."""
    finalizing_ms: Mapped[int | None] = mapped_column(Milliseconds)
    ended_ms: Mapped[int | None] = mapped_column(Milliseconds)
    errors: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON(none_as_null=True))
    output: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """What finalizing has made: the names of files, a summary."""
    holder: Mapped[str | None] = mapped_column(String(100))
    """The upkeep process that feeds it."""
    lease_until_ms: Mapped[int] = mapped_column(Milliseconds, default=0)

    __table_args__ = (
        Index("ix_batches_list", "account_id", "kind", "id"),
        Index("ix_batches_open", "lease_until_ms", sqlite_where=_OPEN, postgresql_where=_OPEN),
    )


class BatchRow(Base):
    __tablename__ = "batch_rows"

    batch_id: Mapped[str] = mapped_column(ForeignKey("batches.id"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    """In the order its owner knows, from 0."""
    place: Mapped[int] = mapped_column(Integer)
    """In the order of feeding: rows that begin alike follow one another."""
    name: Mapped[str | None] = mapped_column(String(512))
    """Its owner's name for it (OpenAI's `custom_id`)."""
    state: Mapped[RowState] = mapped_column(words(RowState))
    body: Mapped[dict[str, Any] | None] = mapped_column(Packed)
    """The request, until it has become a job."""
    detail: Mapped[dict[str, Any] | None] = mapped_column(Packed)
    """What its kind wants to remember of it."""
    job_id: Mapped[str | None] = mapped_column(String(32), index=True)
    source_job_id: Mapped[str | None] = mapped_column(String(32))
    """Of a replayed turn: the one that is asked again."""
    conversation_id: Mapped[str | None] = mapped_column(String(32))
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    ended_no: Mapped[int | None] = mapped_column(Integer)
    """How many rows had ended before it and those counted with it: results are read in this order while it still grows."""

    __table_args__ = (
        Index("ix_batch_rows_waiting", "batch_id", "place", sqlite_where=_WAITING, postgresql_where=_WAITING),
        Index("ix_batch_rows_running", "batch_id", "number", sqlite_where=_RUNNING, postgresql_where=_RUNNING),
        Index("ix_batch_rows_ended", "batch_id", "ended_no", "number", sqlite_where=_ENDED, postgresql_where=_ENDED),
    )
