"""What does a request for a batch say, how does a batch look, and a line of its files?  OpenAI's Batches, with windows from 1h to 7d.

A row that was answered, or refused as a request, has a `response` with the status that its endpoint would have had; one that never came
to that has an `error`.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from models.batch_input import TEXTS
from models.errors import Cancelled, NotFound, TramError, from_json
from models.lifecycle import JobState
from models.tables.batches import Batch, BatchRow, BatchState
from models.tables.jobs import Job
from models.wire.chat import Metadata
from models.wire.errors import envelope, wire_of
from models.wire.files import KEPT_LEAST_S, KEPT_MOST_S
from models.wire.texts import text_completion

_UNITS_S = {"h": 3_600, "d": 86_400}
WINDOW_LEAST_S, WINDOW_MOST_S = 3_600, 7 * 86_400
_WINDOW = re.compile(r"([1-9][0-9]{0,3})([hd])")
_STOPPED = {
    "batch_expired": "This request could not be executed before the completion window expired.",
    "batch_cancelled": "This request was not executed because the batch was cancelled.",
}


class OutputExpiry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=KEPT_LEAST_S, le=KEPT_MOST_S)]


class BatchRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    input_file_id: Annotated[str, Field(max_length=64)]
    endpoint: Literal["/v1/chat/completions", "/v1/completions"]
    completion_window: Annotated[str, Field(max_length=8)]
    """Hours or days: `1h` to `7d`."""
    metadata: Metadata | None = None
    output_expires_after: OutputExpiry | None = None
    webhook_url: Annotated[str, Field(max_length=2048)] | None = None

    @field_validator("completion_window")
    @classmethod
    def _in_bounds(cls, window: str) -> str:
        if not WINDOW_LEAST_S <= seconds(window) <= WINDOW_MOST_S:
            raise ValueError("hours or days, from 1h to 7d")
        return window


def seconds(window: str) -> int:
    """0 for what is no window."""
    told = _WINDOW.fullmatch(window)
    return int(told[1]) * _UNITS_S[told[2]] if told else 0


def batch_view(batch: Batch) -> dict[str, Any]:
    files = {"output_file_id": None, "error_file_id": None} | (batch.output or {})
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.spec["endpoint"],
        "errors": {"object": "list", "data": batch.errors} if batch.errors else None,
        "input_file_id": batch.spec["input_file_id"],
        "completion_window": batch.spec["completion_window"],
        "status": batch.state,
        **files,
        **_times(batch),
        "request_counts": {"total": batch.total, "completed": batch.completed, "failed": batch.failed},
        "usage": _usage(batch),
        "metadata": batch.meta or None,
        "webhook_url": batch.webhook_url,
    }


def _times(batch: Batch) -> dict[str, int | None]:
    ends = (BatchState.COMPLETED, BatchState.FAILED, BatchState.CANCELLED)
    told = {
        "created_at": batch.created_ms,
        "in_progress_at": batch.started_ms,
        "expires_at": batch.expires_ms,
        "finalizing_at": batch.finalizing_ms,
        "cancelling_at": batch.cancelling_ms,
        "expired_at": batch.ended_ms if batch.state is BatchState.EXPIRED else None,
        **{f"{state}_at": batch.ended_ms if batch.state is state else None for state in ends},
    }
    return {name: None if at is None else at // 1000 for name, at in told.items()}


def _usage(batch: Batch) -> dict[str, Any]:
    return {
        "input_tokens": batch.prompt_tokens,
        "input_tokens_details": {"cached_tokens": batch.cached_tokens},
        "output_tokens": batch.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": batch.prompt_tokens + batch.completion_tokens,
    }


def line_id(batch_id: str, number: int) -> str:
    return f"batch_req_{batch_id.removeprefix('batch_')}_{number}"


def number_of(batch_id: str, name: str) -> int | None:
    """The row's number, from its line's id."""
    digits = name.removeprefix(line_id(batch_id, 0)[:-1])
    return int(digits) if digits.isdecimal() and len(digits) < 10 and digits != name else None  # noqa: PLR2004


def line(batch: Batch, row: BatchRow, job: Job | None, completion: Mapping[str, Any] | None) -> dict[str, Any]:
    """Of a row that has ended; `completion` is its answer, where it has one."""
    told = {"id": line_id(batch.id, row.number), "custom_id": row.name, "response": None, "error": None}
    if completion is not None:
        body = text_completion(completion) if batch.spec["endpoint"] == TEXTS else completion
        return told | {"response": _response(row, 200, body)}
    error = row.error or (job.error if job else None) or _lost(job).as_json()
    if code := _stopped(batch, job, error):
        return told | {"error": {"code": code, "message": _STOPPED[code]}}
    fault = from_json(error)
    return told | {"response": _response(row, wire_of(fault).status, envelope(fault))}


def _lost(job: Job | None) -> TramError:
    """Of a row without an error and without an answer."""
    if job is not None and job.state is JobState.CANCELLED:
        return Cancelled("the job was cancelled")
    return NotFound("the answer was not stored", code="answer_not_stored")


def _stopped(batch: Batch, job: Job | None, error: Mapping[str, Any]) -> str | None:
    """By the end of the batch, and not by anything of its own."""
    if job is None:
        return error["code"] if error["code"] in _STOPPED else None
    if job.state is JobState.CANCELLED and batch.cancelling_ms is not None:
        return "batch_cancelled"
    return "batch_expired" if job.state is JobState.EXPIRED else None


def _response(row: BatchRow, status: int, body: Mapping[str, Any]) -> dict[str, Any]:
    return {"status_code": status, "request_id": row.job_id, "body": body}
