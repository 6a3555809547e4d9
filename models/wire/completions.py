"""How does a stored chat completion look?  OpenAI's chat completion, with a `status` where it is not complete.

The words are those of OpenAI's background responses; a completion that is queued or running has no choices yet.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from models import ids
from models.lifecycle import JobState
from models.tables.jobs import Job
from models.wire.chat import Metadata, tier_of


class CompletionUpdate(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    metadata: Metadata


def completion_view(job: Job, completion: Mapping[str, Any] | None) -> dict[str, Any]:
    view = dict(completion) if completion else _empty(job)
    error = job.error if job.state is not JobState.COMPLETED else None
    return view | {
        "status": job.state,
        "metadata": job.meta,
        "error": None if error is None else {"code": error["code"], "message": error["message"]},
    }


def _empty(job: Job) -> dict[str, Any]:
    return {
        "id": ids.completion_of(job.id),
        "object": "chat.completion",
        "created": job.created_ms // 1000,
        "model": job.model,
        "choices": [],
        "usage": None,
        "service_tier": tier_of(job.parameters or {}),
        "system_fingerprint": None,
    }


def message_views(job: Job, messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The prompt, as OpenAI lists it: each message with an id of its own."""
    name = ids.completion_of(job.id)
    return [{"id": f"{name}-{number}", **_shown(message)} for number, message in enumerate(messages)]


def _shown(message: Mapping[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    parts = content if isinstance(content, list) else None
    return {"name": None, **message, "content": None if parts else content, "content_parts": parts}
