"""How do batches look, and the lines of their files?"""

from typing import Any, Literal

from models.wire.chat import Metadata
from models.wire.shapes import JobId, Seconds, Shape
from models.wire.shapes.files import FileId

Status = Literal["validating", "in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled"]


class BatchError(Shape):
    code: str
    message: str
    param: str | None
    line: int | None
    """Of the file, from 1."""


class BatchErrors(Shape):
    object: Literal["list"]
    data: list[BatchError]


class RowCounts(Shape):
    total: int
    completed: int
    failed: int


class InputDetails(Shape):
    cached_tokens: int


class OutputDetails(Shape):
    reasoning_tokens: int


class BatchTokens(Shape):
    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class FileBatch(Shape):
    id: str
    object: Literal["batch"]
    endpoint: str
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str
    status: Status
    output_file_id: FileId | None
    error_file_id: FileId | None
    created_at: Seconds
    in_progress_at: Seconds | None
    expires_at: Seconds | None
    finalizing_at: Seconds | None
    completed_at: Seconds | None
    failed_at: Seconds | None
    expired_at: Seconds | None
    cancelling_at: Seconds | None
    cancelled_at: Seconds | None
    request_counts: RowCounts
    usage: BatchTokens
    metadata: Metadata | None
    webhook_url: str | None


class RowResponse(Shape):
    status_code: int
    request_id: JobId | None
    body: dict[str, Any]
    """What the endpoint would have answered."""


class RowError(Shape):
    code: str
    message: str


class BatchLine(Shape):
    """Of a batch's output file, or its error file."""

    id: str
    custom_id: str
    response: RowResponse | None
    error: RowError | None
    """Where the row never came to a response."""


class Progress(Shape):
    """The `data` of an event, and of the webhook at the end."""

    id: str
    object: Literal["batch", "replay", "eval.run"]
    status: Status | Literal["queued"]
    """A replay's words are those that it has under its id."""
    created_at: Seconds
    request_counts: RowCounts
    metadata: Metadata


class ProgressEvent(Shape):
    """What your server is sent; what the whole came to is fetched under `data.id`."""

    id: str
    object: Literal["event"]
    type: str
    created_at: Seconds
    timestamp: str
    data: Progress
