"""How do a text's completion and its request look?  The request is a chat's, but for what `models.wire.texts` says otherwise."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from models.wire.chat import ChatRequest
from models.wire.shapes import Seconds, Shape
from models.wire.shapes.chat import Fingerprint, Tier, Usage
from models.wire.texts import CHATS_OWN, TextRequest

TextId = Annotated[str, Field(pattern="^cmpl-[0-9a-z]{26}$")]
Prompt = Annotated[str, Field(min_length=1)]


class TextLogProbabilities(Shape):
    tokens: list[str]
    token_logprobs: list[float | None]
    """None for the first token of a prompt that is echoed, before which nothing stands."""
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class TextChoice(Shape):
    text: str
    index: int
    logprobs: TextLogProbabilities | None
    finish_reason: Literal["stop", "length", "content_filter"] | None


class TextChunk(Shape):
    """The `data` of each event; `[DONE]` is the last one."""

    id: TextId
    object: Literal["text_completion"]
    created: Seconds
    model: str
    service_tier: Tier
    system_fingerprint: Fingerprint
    choices: list[TextChoice]
    usage: Usage | None = None


class TextCompletion(TextChunk):
    usage: Usage


def fields_of(kind: type[BaseModel], without: frozenset[str] = frozenset()) -> dict[str, Any]:
    """As `create_model` takes them."""
    return {name: (field.annotation, field) for name, field in kind.model_fields.items() if name not in without}


_FIELDS = fields_of(ChatRequest, CHATS_OWN) | fields_of(TextRequest)
_PROMPT = (Prompt | Annotated[list[Prompt], Field(min_length=1, max_length=1)], ...)
TextBody = create_model("TextRequest", __config__=ConfigDict(extra="forbid"), **(_FIELDS | {"prompt": _PROMPT}))
