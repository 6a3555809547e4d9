"""How do jobs and replays look?"""

from typing import Any, Literal

from models.lifecycle import JobState
from models.replay import Verdict
from models.wire.chat import Metadata
from models.wire.shapes import JobId, Milliseconds, Seconds, Shape
from models.wire.shapes.chat import ChatCompletion, Usage


class Timing(Shape):
    """Milliseconds since the job was accepted."""

    queued_ms: Milliseconds | None
    ttft_ms: Milliseconds | None
    total_ms: Milliseconds | None


class JobUsage(Usage):
    cost: float | None
    """US dollars; null where the job is not billed."""


class Job(Shape):
    id: JobId
    object: Literal["job"]
    status: Literal["queued", "in_progress", "completed", "failed"]
    """For clients that know two ends only: a cancelled or expired job has failed."""
    state: JobState
    modality: Literal["text"]
    model: str
    created_at: Seconds
    updated_at: Seconds
    deadline: Seconds | None
    attempt: int
    cancel_requested: bool
    metadata: Metadata
    webhook_url: str | None
    conversation_id: str | None
    result: ChatCompletion | None
    """Left out of lists."""
    result_url: str | None
    error: str | None
    error_code: str | None
    usage: JobUsage | None
    timing: Timing


class JobFailure(Shape):
    code: str
    message: str
    param: str | None


class JobEnd(Shape):
    """The `data` of the event `end`."""

    id: JobId
    object: Literal["job"]
    state: JobState
    error: JobFailure | None


class Difference(Shape):
    position: int
    recorded: str | None
    replayed: str | None


class ReplayedTurn(Shape):
    source_job_id: JobId
    job_id: JobId
    state: JobState
    verdict: Verdict
    first_difference: Difference | None
    source_output: str | None
    target_output: str | None
    latency_source_ms: int | None
    latency_target_ms: int | None
    cost_source_cents: float | None
    cost_target_cents: float | None


class Replay(Shape):
    id: str
    object: Literal["replay"]
    status: Literal["queued", "in_progress", "completed", "failed"]
    created_at: Seconds
    source_request_id: JobId | None
    source_conversation_id: str | None
    source_model: str | None
    target_model: str | None
    overrides: dict[str, Any]
    verdict: Verdict
    verdicts: dict[str, int]
    source_output: str | None
    target_output: str | None
    latency_source_ms: int | None
    latency_target_ms: int | None
    cost_source_cents: float | None
    cost_target_cents: float | None
    first_difference: Difference | None
    turns: list[ReplayedTurn]
