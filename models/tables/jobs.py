"""What is one piece of generating work?  The row is the truth: queues, streams and leases can be rebuilt from it.

`models.jobs` alone writes these columns after the insert.
"""

from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, ForeignKey, Index, Integer, String, text
from sqlalchemy.orm import Mapped, defer, mapped_column

from models.lifecycle import JobState
from models.tables.base import Base, Milliseconds, Packed, words

_FORGETTABLE = text("forget_due_ms IS NOT NULL")
_HELD = text("held_micros IS NOT NULL AND ended_ms IS NULL")
_QUEUED, _RUNNING = text("state = 'queued'"), text("state = 'in_progress'")


class Door(StrEnum):
    CHAT = "chat"
    """`/v1/chat/completions`: somebody holds the line; who hangs up cancels."""
    JOB = "job"
    """`/v1/jobs`: runs on whoever listens."""
    BATCH = "batch"
    """`/v1/batches`: a row of somebody's file."""
    REPLAY = "replay"
    """`/v1/replays`: a recorded turn, asked again."""
    EVAL = "eval"
    """`/v1/evals`: a sample to be graded, or a question to the one who grades it."""
    IMPORT = "import"
    """Nobody asked it here: a turn that came with a file.  It has ended, was never queued and is in no books."""


class Job(Base):
    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    door: Mapped[Door] = mapped_column(words(Door))
    model: Mapped[str] = mapped_column(String(200))
    """As the caller wrote it; answers echo it."""
    card: Mapped[str] = mapped_column(String(100))
    """What the name resolved to."""
    queue: Mapped[str] = mapped_column(String(120))
    state: Mapped[JobState] = mapped_column(words(JobState))
    attempt: Mapped[int] = mapped_column(Integer, default=1)
    """Fences every write: who holds an older number changes nothing."""
    created_ms: Mapped[int] = mapped_column(Milliseconds)
    started_ms: Mapped[int | None] = mapped_column(Milliseconds)
    first_token_ms: Mapped[int | None] = mapped_column(Milliseconds)
    ended_ms: Mapped[int | None] = mapped_column(Milliseconds)
    deadline_ms: Mapped[int | None] = mapped_column(Milliseconds)
    publish_due_ms: Mapped[int | None] = mapped_column(Milliseconds)
    """While queued: when `upkeep` should doubt that the broker still holds its message."""
    lease_until_ms: Mapped[int | None] = mapped_column(Milliseconds)
    """While running: renewed by the worker; once past, anybody may reclaim the job."""
    worker: Mapped[str | None] = mapped_column(String(100))
    cancel_requested_ms: Mapped[int | None] = mapped_column(Milliseconds)
    forget_due_ms: Mapped[int | None] = mapped_column(Milliseconds)
    """When what is left of the answer must go: of `store: false` in its time, of a deleted job until the object store has nothing of it."""
    deleted_ms: Mapped[int | None] = mapped_column(Milliseconds)
    """Its owner wanted it gone: what was said is, the row stays for the books and is shown to nobody."""
    store: Mapped[bool] = mapped_column(Boolean, default=True)
    """False: no content stays once the end state is delivered."""
    meta: Mapped[dict[str, str]] = mapped_column(JSON, default=dict)
    webhook_url: Mapped[str | None] = mapped_column(String(2048))
    parameters: Mapped[dict[str, Any] | None] = mapped_column(Packed)
    """The request without its messages."""
    messages: Mapped[list[dict[str, Any]] | None] = mapped_column(Packed(plain=True))
    """Only until the end: then the transcript tree holds them, each once.  Deflating 128 KiB takes 0.8 ms, before the first token."""
    chain: Mapped[list[str] | None] = mapped_column(Packed)
    """Chain hash of each message, computed when the request was validated."""
    result: Mapped[dict[str, Any] | None] = mapped_column(Packed)
    result_key: Mapped[str | None] = mapped_column(String(200))
    """Where the result lies in the object store, when it is too large for the row."""
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    prompt_tokens: Mapped[int] = mapped_column(Integer, default=0)
    completion_tokens: Mapped[int] = mapped_column(Integer, default=0)
    cached_tokens: Mapped[int] = mapped_column(Integer, default=0)
    environment: Mapped[str | None] = mapped_column(String(36))
    """Digest of what made the answer, see `models.environments`."""
    conversation_id: Mapped[str | None] = mapped_column(String(32), index=True)
    conversation_name: Mapped[str | None] = mapped_column(String(64))
    """What the client calls the conversation that its turn belongs to; it need not exist."""
    batch_id: Mapped[str | None] = mapped_column(String(40), index=True)
    """What it is a row of, if anything (`models.tables.batches`)."""
    source_job_id: Mapped[str | None] = mapped_column(String(32))
    parent_id: Mapped[str | None] = mapped_column(String(32))
    """The account above its own, which pays with it."""
    tag: Mapped[str | None] = mapped_column(String(100))
    held_micros: Mapped[int | None] = mapped_column(BigInteger)
    """Micro-dollars bound in Redis while it is open; None: its account has no limits, and nothing has to be let go."""
    cost_micros: Mapped[int | None] = mapped_column(BigInteger)

    __table_args__ = (
        Index("ix_jobs_list", "account_id", "id"),
        Index("ix_jobs_list_state", "account_id", "state", "id"),
        Index("ix_jobs_publish_due", "publish_due_ms", sqlite_where=_QUEUED, postgresql_where=_QUEUED),
        Index("ix_jobs_queued_deadline", "deadline_ms", sqlite_where=_QUEUED, postgresql_where=_QUEUED),
        Index("ix_jobs_forget_due", "forget_due_ms", sqlite_where=_FORGETTABLE, postgresql_where=_FORGETTABLE),
        Index("ix_jobs_held", "account_id", sqlite_where=_HELD, postgresql_where=_HELD),
        Index("ix_jobs_lease_until", "lease_until_ms", sqlite_where=_RUNNING, postgresql_where=_RUNNING),
    )


NO_RESULT = defer(Job.result, raiseload=True)
"""For many rows at once: a result has every chunk that was streamed, a hundred kilobytes, or two megabytes."""


class IdempotencyKey(Base):
    """Which job, or replay, a caller's `Idempotency-Key` stands for."""

    __tablename__ = "idempotency_keys"

    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    digest: Mapped[str] = mapped_column(String(32))
    """Of the request it came with: the same key with another request is a mistake."""
    job_id: Mapped[str] = mapped_column(String(40))
    due_ms: Mapped[int] = mapped_column(Milliseconds, index=True)
    """When it is forgotten."""
