"""How does a job look from outside?

`state` is the truth.  `status` is for clients that know only two ends (aigateway-py waits for `completed` or `failed`): there a
cancelled or expired job has failed, and `error` says how.
"""

from collections.abc import Mapping
from typing import Any

from models.lifecycle import FINAL, JobState
from models.limits import MICROS_PER_USD
from models.tables.jobs import Job
from models.wire.stream import usage_of

_STATUS = {JobState.CANCELLED: "failed", JobState.EXPIRED: "failed"}


def job_view(job: Job, result: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """`result` is the chat completion, where the job has one."""
    error = job.error or _told(job.state)
    return {
        "id": job.id,
        "object": "job",
        "status": _STATUS.get(job.state, job.state),
        "state": job.state,
        "door": job.door,
        "part_of": job.batch_id,
        "modality": "text",
        "model": job.model,
        "created_at": job.created_ms // 1000,
        "updated_at": (job.ended_ms or job.started_ms or job.created_ms) // 1000,
        "deadline": None if job.deadline_ms is None else job.deadline_ms // 1000,
        "attempt": job.attempt,
        "cancel_requested": job.cancel_requested_ms is not None,
        "metadata": job.meta,
        "webhook_url": job.webhook_url,
        "conversation_id": job.conversation_id,
        "result": result,
        "result_url": f"/v1/jobs/{job.id}" if job.state is JobState.COMPLETED else None,
        "error": None if error is None else error["message"],
        "error_code": None if error is None else error["code"],
        "usage": _usage(job) if job.state in FINAL else None,
        "timing": _timing(job),
    }


def _usage(job: Job) -> dict[str, Any]:
    counts = usage_of(job.prompt_tokens, job.completion_tokens, job.cached_tokens)
    return counts | {"cost": None if job.cost_micros is None else job.cost_micros / MICROS_PER_USD}


def _told(state: JobState) -> dict[str, Any] | None:
    return {"message": "the job was cancelled", "code": "cancelled"} if state is JobState.CANCELLED else None


def _timing(job: Job) -> dict[str, int | None]:
    """Milliseconds since the job was accepted."""
    return {
        name: None if at is None else at - job.created_ms
        for name, at in (("queued_ms", job.started_ms), ("ttft_ms", job.first_token_ms), ("total_ms", job.ended_ms))
    }
