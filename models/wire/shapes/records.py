"""How do jobs look?"""

from typing import Literal

from models.lifecycle import JobState
from models.tables.jobs import Door
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
    door: Door
    """Where it came in; what came as `import` was asked elsewhere."""
    part_of: str | None
    """The batch, replay or run of an eval that it is a row of."""
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
