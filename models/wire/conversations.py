"""How does a conversation look from outside?  Its turns in the order they were made, each naming the one it continues."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from models.branches import Said, Told
from models.tables.jobs import Door, Job
from models.tables.transcripts import Answer, Conversation, Turn
from models.transcripts import path
from models.wire.chat import Metadata
from models.wire.messages import Strict

NAME_CHARACTERS = 64
Title = Annotated[str, Field(max_length=200)]
Name = Annotated[str, Field(min_length=1, max_length=NAME_CHARACTERS)]


class NewConversation(Strict):
    """An empty one, for turns that name it."""

    name: Name | None = None
    title: Title | None = None
    metadata: Metadata | None = None


class ConversationUpdate(Strict):
    """What is left out stays."""

    title: Title | None = None
    metadata: Metadata | None = None


def columns(wanted: NewConversation | ConversationUpdate) -> dict[str, Any]:
    """Of the row; null says nothing."""
    said = {"name": getattr(wanted, "name", None), "title": wanted.title, "meta": wanted.metadata}
    return {name: value for name, value in said.items() if value is not None}


def conversation_view(conversation: Conversation) -> dict[str, Any]:
    return {
        "id": conversation.id,
        "object": "conversation",
        "name": conversation.name,
        "title": conversation.title,
        "metadata": conversation.meta,
        "created_at": conversation.created_ms // 1000,
        "updated_at": conversation.updated_ms // 1000,
    }


def whole_view(conversation: Conversation, told: Told) -> dict[str, Any]:
    turns = [_turn_in(told, turn, job) for turn, job in told.turns]
    return conversation_view(conversation) | {
        "branches": [branch_view(told, leaf) for leaf in told.leaves],
        "turns": turns,
    }


def branch_view(told: Told, leaf: Said) -> dict[str, Any]:
    return {
        "leaf": leaf.turn.job_id,
        "choice": leaf.choice,
        "messages": len(told.nodes(leaf.tip)),
        "replay": leaf.turn.replay,
        "created_at": leaf.turn.created_ms // 1000,
    }


def messages_view(told: Told, leaf: Said) -> dict[str, Any]:
    """As they would be sent to go on from there."""
    messages = [node.message for node in told.nodes(leaf.tip)]
    return {"object": "list", "data": messages, "leaf": leaf.turn.job_id, "choice": leaf.choice}


def _turn_in(told: Told, turn: Turn, job: Job) -> dict[str, Any]:
    known = told.heard.get(turn.parent_job_id or "", set())
    return turn_view(turn, job, path(told.tree, turn.prompt, known), told.answers[turn.job_id])


def turn_view(
    turn: Turn, job: Job, added: Sequence[dict[str, Any]], answers: Sequence[tuple[Answer, Mapping[str, Any]]]
) -> dict[str, Any]:
    """`added` are the messages this turn brought; what stood before them is the parent's path and answer."""
    return {
        "id": turn.job_id,
        "object": "conversation.turn",
        "parent_id": turn.parent_job_id,
        "replay": turn.replay,
        "replay_id": job.batch_id if turn.replay else None,
        "imported": job.door is Door.IMPORT,
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
