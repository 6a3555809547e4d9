"""How do conversations look?"""

from typing import Any, Literal

from models.lifecycle import JobState
from models.wire.chat import Metadata
from models.wire.shapes import JobId, Seconds, Shape


class Conversation(Shape):
    id: str
    object: Literal["conversation"]
    name: str | None
    """What the client calls it."""
    title: str | None
    metadata: Metadata
    created_at: Seconds
    updated_at: Seconds


class TurnAnswer(Shape):
    index: int
    message: dict[str, Any]
    finish_reason: str


class TurnUsage(Shape):
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


class Turn(Shape):
    id: JobId
    object: Literal["conversation.turn"]
    parent_id: JobId | None
    replay: bool
    replay_id: str | None
    imported: bool
    """It came with a file: nobody asked it here."""
    state: JobState
    model: str
    created_at: Seconds
    messages: list[dict[str, Any]]
    """Those this turn brought; what stood before them is the parent's."""
    answers: list[TurnAnswer]
    usage: TurnUsage


class Branch(Shape):
    """A way the conversation has gone, by the turn it ends with."""

    leaf: JobId
    choice: int
    messages: int
    replay: bool
    """Nobody but a replay has said it."""
    created_at: Seconds


class WholeConversation(Conversation):
    branches: list[Branch]
    turns: list[Turn]


class BranchMessages(Shape):
    object: Literal["list"]
    data: list[dict[str, Any]]
    """As they would be sent to go on from there."""
    leaf: JobId
    choice: int


class DeletedConversation(Shape):
    id: str
    object: Literal["conversation.deleted"]
    deleted: Literal[True]


class ConversationImport(Shape):
    """How many were new."""

    object: Literal["conversation.import"]
    conversations: int
    turns: int
    messages: int
    held: int
    """Records of which the account held everything already."""
