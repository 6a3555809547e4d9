"""How do errors, chat completions and their chunks look?  OpenAI's words, with what we add."""

from typing import Annotated, Any, Literal

from pydantic import Field

from models.lifecycle import JobState
from models.wire.chat import Metadata
from models.wire.shapes import CompletionId, Seconds, Shape

Tier = Literal["default", "flex", "priority"]
Reason = Literal["stop", "length", "tool_calls", "function_call", "content_filter"]
Fingerprint = Annotated[str | None, Field(description="Weights and engine: who is given the same twice may compare")]


class ErrorBody(Shape):
    message: str
    type: str
    param: str | None
    """Path into your own body, or the parameter or header at fault."""
    code: str


class Error(Shape):
    error: ErrorBody


class CachedTokens(Shape):
    cached_tokens: int


class Usage(Shape):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class CalledFunction(Shape):
    name: str
    arguments: str
    """JSON, as the model wrote it."""


class Call(Shape):
    id: str
    type: Literal["function"]
    function: CalledFunction


class Reply(Shape):
    role: Literal["assistant"]
    content: str | None
    tool_calls: list[Call] = Field(default_factory=list)
    function_call: CalledFunction | None = None
    """Where `functions` were sent."""


class LogProbability(Shape):
    token: str
    logprob: float | None
    """None for the first token of a prompt that is echoed, before which nothing stands."""
    bytes: list[int] | None
    top_logprobs: list["LogProbability"] = Field(default_factory=list)


class LogProbabilities(Shape):
    content: list[LogProbability]


class Choice(Shape):
    index: int
    message: Reply
    logprobs: LogProbabilities | None
    finish_reason: Reason | None


class ChatCompletion(Shape):
    id: CompletionId
    object: Literal["chat.completion"]
    created: Seconds
    model: str
    choices: list[Choice]
    usage: Usage
    service_tier: Tier
    system_fingerprint: Fingerprint


class Told(Shape):
    code: str
    message: str


class StoredCompletion(Shape):
    """A chat completion with how it stands; one that is not complete has no choices yet."""

    id: CompletionId
    object: Literal["chat.completion"]
    created: Seconds
    model: str
    choices: list[Choice]
    usage: Usage | None
    service_tier: Tier
    system_fingerprint: Fingerprint
    status: JobState
    metadata: Metadata
    error: Told | None


class DeltaFunction(Shape):
    name: str = ""
    arguments: str = ""


class DeltaCall(Shape):
    index: int
    id: str = ""
    type: Literal["function"] = "function"
    function: DeltaFunction


class Delta(Shape):
    role: Literal["assistant"] = "assistant"
    content: str = ""
    tool_calls: list[DeltaCall] = Field(default_factory=list)
    function_call: DeltaFunction | None = None


class ChunkChoice(Shape):
    index: int
    delta: Delta
    logprobs: LogProbabilities | None
    finish_reason: Reason | None


class ChatCompletionChunk(Shape):
    """The `data` of each event; `[DONE]` is the last one of a chat's."""

    id: CompletionId
    object: Literal["chat.completion.chunk"]
    created: Seconds
    model: str
    service_tier: Tier
    system_fingerprint: Fingerprint
    choices: list[ChunkChoice]
    usage: Usage | None = None


class StoredMessage(Shape):
    id: str
    role: Literal["system", "user", "assistant", "tool"]
    content: str | None
    name: str | None
    content_parts: list[dict[str, Any]] | None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str = ""


class DeletedCompletion(Shape):
    id: CompletionId
    object: Literal["chat.completion.deleted"]
    deleted: Literal[True]
