"""How does a conversation look from outside?  Its turns in the order they were made, each naming the one it continues."""

from collections.abc import Sequence
from typing import Any

from models.tables.jobs import Job
from models.tables.transcripts import Answer, Conversation, Turn


def conversation_view(conversation: Conversation) -> dict[str, Any]:
    return {
        "id": conversation.id,
        "object": "conversation",
        "title": conversation.title,
        "metadata": conversation.meta,
        "created_at": conversation.created_ms // 1000,
        "updated_at": conversation.updated_ms // 1000,
    }


def turn_view(
    turn: Turn, job: Job, added: Sequence[dict[str, Any]], answers: Sequence[tuple[Answer, dict[str, Any]]]
) -> dict[str, Any]:
    """`added` are the messages this turn brought; what stood before them is the parent's path and answer."""
    return {
        "id": turn.job_id,
        "object": "conversation.turn",
        "parent_id": turn.parent_job_id,
        "replay": turn.replay,
        "replay_id": job.batch_id if turn.replay else None,
        "state": job.state,
        "model": job.model,
        "created_at": turn.created_ms // 1000,
        "messages": list(added),
        "answers": [
            {"index": answer.choice, "message": message, "finish_reason": answer.finish_reason}
            for answer, message in answers
        ],
        "usage": {
            "prompt_tokens": job.prompt_tokens,
            "completion_tokens": job.completion_tokens,
            "cached_tokens": job.cached_tokens,
        },
    }
