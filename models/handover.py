"""What passes between a job's row and those who move it: what is submitted, claimed, renewed, ended?

Values only.  `models.jobs` has the verbs that take and give them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from models.lifecycle import JobState
from models.limits import Settlement
from models.tables.jobs import Door
from models.transcripts import Spoken


@dataclass(frozen=True, slots=True)
class NewJob:
    id: str
    account_id: str
    door: Door
    model: str
    card: str
    queue: str
    created_ms: int
    parameters: dict[str, Any]
    messages: list[dict[str, Any]]
    chain: list[str]
    store: bool = True
    meta: dict[str, str] = field(default_factory=dict)
    webhook_url: str | None = None
    deadline_ms: int | None = None
    conversation_id: str | None = None
    conversation_name: str | None = None
    batch_id: str | None = None
    source_job_id: str | None = None
    parent_id: str | None = None
    tag: str | None = None
    held_micros: int | None = None


@dataclass(frozen=True, slots=True)
class Claimed:
    """All a worker needs to run one attempt."""

    id: str
    account_id: str
    parent_id: str | None
    attempt: int
    model: str
    card: str
    held_micros: int | None
    door: Door
    created_ms: int
    started_ms: int
    deadline_ms: int | None
    store: bool
    webhook_url: str | None
    parameters: dict[str, Any]
    messages: list[dict[str, Any]]

    @property
    def waited_ms(self) -> int:
        return max(0, self.started_ms - self.created_ms)  # by the clocks of two hosts


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended; `result` is the packed answer's document, or `result_key` where it lies."""

    state: JobState
    at_ms: int
    error: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    result_key: str | None = None
    answers: Sequence[Spoken] = ()
    first_token_ms: int | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    environment: str | None = None
    """Digest of what made the answer."""


@dataclass(frozen=True, slots=True)
class Doomed:
    """An ended job whose answer is to go: from its row first, then what its attempts have put into the object store."""

    job_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Renewed:
    id: str
    attempt: int
    cancel_requested: bool


@dataclass(frozen=True, slots=True)
class Moved:
    """A job that changed hands: where its message goes, or how it ended."""

    id: str
    attempt: int
    queue: str
    state: JobState
    settlement: Settlement | None = None
    """What its end lets go of."""

    @property
    def epilogue(self) -> tuple[str, int, int]:
        """Job, attempt and number of an end that no attempt has written: behind all that any attempt may have."""
        return self.id, self.attempt + 1, 1
