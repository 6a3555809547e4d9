"""How do Cloudflare's answers and requests look?  A request is a chat's, but for what `models.wire.native` says otherwise."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, RootModel, create_model

from models.ids import SERIES_MOST
from models.wire.chat import ChatRequest, JobRequest, PlainFormat
from models.wire.messages import MESSAGES_MOST, TOOLS_MOST, Function, Message, Strict, Tool
from models.wire.native import NO_PLACE, BatchPoll, NativeRequest, Referred
from models.wire.shapes import Shape
from models.wire.shapes.chat import Usage
from models.wire.shapes.texts import fields_of


class NativeCall(Shape):
    id: str
    name: str
    arguments: Any
    """An object; what was cut off is a text."""


class NativeReply(Shape):
    response: Any
    """A text, null where tools are called, or a document where one was asked for."""
    tool_calls: list[NativeCall]
    usage: Usage


class NativeProblem(Shape):
    code: int
    """Cloudflare's, where it has one, else the status."""
    message: str


class BatchAnswer(Shape):
    id: int
    """Its place among the batch's requests."""
    external_reference: str | None
    success: bool
    result: NativeReply | None
    errors: list[NativeProblem] = Field(default_factory=list)


class BatchUsage(Shape):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class BatchReply(Shape):
    responses: list[BatchAnswer]
    usage: BatchUsage


class BatchState(Shape):
    status: Literal["queued", "running"]
    request_id: str
    """What to ask for it with."""
    model: str


class Succeeded(Shape):
    success: Literal[True]
    errors: Annotated[list[NativeProblem], Field(max_length=0)]
    messages: Annotated[list[Any], Field(max_length=0)]


class NativeAnswer(Succeeded):
    result: NativeReply | BatchReply


class NativeWaiting(Succeeded):
    result: BatchState


class NativeError(Shape):
    result: None
    success: Literal[False]
    errors: Annotated[list[NativeProblem], Field(min_length=1)]
    messages: Annotated[list[Any], Field(max_length=0)]


class NativeChunk(Shape):
    """The `data` of each event: text as it comes, then what was called, then the usage; `[DONE]` is the last one."""

    response: str
    tool_calls: list[NativeCall] = Field(default_factory=list)
    usage: Usage | None = None


class NativeFormat(Strict):
    type: Literal["json_schema"]
    json_schema: dict[str, Any]
    """The schema itself, or OpenAI's, which has a name beside it."""


_REPLACED: dict[str, Any] = {
    "messages": (Annotated[list[Message], Field(min_length=1, max_length=MESSAGES_MOST)] | None, None),
    "tools": (Annotated[list[Tool | Function], Field(min_length=1, max_length=TOOLS_MOST)] | None, None),
    "response_format": (Annotated[PlainFormat | NativeFormat, Field(discriminator="type")] | None, None),
}
_FIELDS = fields_of(ChatRequest, NO_PLACE) | fields_of(NativeRequest) | _REPLACED
_CLOSED = ConfigDict(extra="forbid")
NativeQuestion = create_model("NativeQuestion", __config__=_CLOSED, **_FIELDS)
BatchQuestion = create_model(
    "BatchQuestion", __config__=_CLOSED, **(fields_of(JobRequest, NO_PLACE) | _FIELDS | fields_of(Referred))
)
Batch = create_model(
    "Batch",
    __config__=_CLOSED,
    requests=(Annotated[list[BatchQuestion], Field(min_length=1, max_length=SERIES_MOST)], ...),
    queueRequest=(bool | None, None),
)


class NativeBody(RootModel[NativeQuestion | Batch | BatchPoll]):
    """A question; with `queueRequest` a batch of such, or the id of one."""
