"""What may a chat request say, and what does an answer look like?  OpenAI's chat completions, with the fields we honour.

A field that is not here is refused by name, never ignored.  `ChatRequest` only validates: what reaches the engine is the parsed
body itself, so message texts and tool schemas arrive unchanged.  Source: OpenAI's API reference, chat completions.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.errors import InvalidRequest

MESSAGES_MOST = 4096
"""More turns than this is a mistake: the longest context holds fewer."""
CHOICES_MOST = 16
STOPS_MOST = 16
TOOLS_MOST = 128
METADATA_MOST = 16
Temperature = Annotated[float, Field(ge=0, le=5)]
Stop = Annotated[str, Field(min_length=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=METADATA_MOST)
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class TextPart(_Strict):
    type: Literal["text"]
    text: str


class ImageUrl(_Strict):
    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(_Strict):
    type: Literal["image_url"]
    image_url: ImageUrl


Text = str | Annotated[list[TextPart], Field(min_length=1)]
Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class FunctionCall(_Strict):
    name: str
    arguments: str
    parsed_arguments: Any = None
    """Added by the OpenAI SDK's helpers, whose messages are sent back as they are."""


class ToolCall(_Strict):
    id: str
    type: Literal["function"]
    function: FunctionCall
    index: int | None = None
    """As in a streamed call, from which they make this one."""


class SystemMessage(_Strict):
    role: Literal["system", "developer"]
    content: Text
    name: str | None = None


class UserMessage(_Strict):
    role: Literal["user"]
    content: str | Annotated[list[Part], Field(min_length=1)]
    name: str | None = None


class AssistantMessage(_Strict):
    role: Literal["assistant"]
    content: Text | None = None
    name: str | None = None
    refusal: str | None = None
    parsed: Any = None
    annotations: list[Any] | None = None
    audio: None = None
    function_call: None = None
    """These four the SDK adds, too."""
    tool_calls: Annotated[list[ToolCall], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "AssistantMessage":
        if self.content is None and self.tool_calls is None:
            raise ValueError("an assistant message needs content or tool_calls")
        return self


class ToolMessage(_Strict):
    role: Literal["tool"]
    content: Text
    tool_call_id: str
    name: str | None = None


Message = Annotated[SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]


class Function(_Strict):
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(_Strict):
    type: Literal["function"]
    function: Function


class NamedFunction(_Strict):
    name: str


class NamedTool(_Strict):
    type: Literal["function"]
    function: NamedFunction


class JsonSchema(_Strict):
    name: Annotated[str, Field(max_length=64)]
    description: str | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")] = {}
    strict: bool | None = None


class PlainFormat(_Strict):
    type: Literal["text", "json_object"]


class SchemaFormat(_Strict):
    type: Literal["json_schema"]
    json_schema: JsonSchema


class StreamOptions(_Strict):
    include_usage: bool | None = None


class ChatRequest(_Strict):
    model: Annotated[str, Field(max_length=200)] | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=MESSAGES_MOST)]
    temperature: Temperature | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=STOPS_MOST)] | None = None
    n: Annotated[int, Field(ge=1, le=CHOICES_MOST)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] | None = None
    tools: Annotated[list[Tool], Field(min_length=1, max_length=TOOLS_MOST)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: Annotated[PlainFormat | SchemaFormat, Field(discriminator="type")] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    store: bool | None = None
    metadata: Metadata | None = None
    user: str | None = None
    conversation_id: str | None = None
    background: bool | None = None
    """Do not wait: 202 at once, with a completion whose `status` is `queued`."""

    @model_validator(mode="after")
    def _fits_together(self) -> "ChatRequest":
        if self.tool_choice not in (None, "none", "auto") and not self.tools:
            raise ValueError("tool_choice: needs tools")
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs: needs logprobs: true")
        if self.background and self.store is False:
            raise ValueError("background: needs store, or nobody could ever read the answer")
        if self.stream_options and not self.stream:
            raise ValueError("stream_options: needs stream: true")
        return self


class JobRequest(ChatRequest):
    """A chat request that nobody waits for."""

    webhook_url: str | None = None
    deadline: int | None = None
    """Unix time, in seconds, after which the answer is of no use."""

    @model_validator(mode="after")
    def _nobody_holds_the_line(self) -> "JobRequest":
        if self.stream:
            raise ValueError("stream: a job is streamed from GET /v1/jobs/{id}/events")
        return self


NOT_FOR_THE_ENGINE = frozenset(
    {"model", "messages", "stream", "stream_options", "store", "metadata", "user"}
    | {"conversation_id", "webhook_url", "deadline", "background"}
)


def engine_parameters(body: Mapping[str, Any]) -> dict[str, Any]:
    """What of a validated body the engine is to see beside the messages; one name for the token limit, no nulls."""
    kept = {key: value for key, value in body.items() if key not in NOT_FOR_THE_ENGINE and value is not None}
    limit = kept.pop("max_tokens", None)
    if limit is not None:
        kept.setdefault("max_completion_tokens", limit)
    return kept


PARAM_CHARACTERS = 200
"""How much of a caller's own key an error repeats."""
_TAGS = frozenset(
    {"system", "developer", "user", "assistant", "tool"} | {"text", "image_url", "json_object", "json_schema"}
)


def explain(error: ValidationError, body: Any) -> InvalidRequest:
    """The most telling of pydantic's errors: the one that got deepest into the body."""
    found = [(_param(each, body), each) for each in error.errors(include_url=False)]
    # Of a union's errors at one place, "at least 1 item" says more than "not a string".
    param, worst = max(found, key=lambda pair: (len(pair[0]), not pair[1]["type"].endswith("_type")))
    param = param[:PARAM_CHARACTERS]
    message = worst["msg"].removeprefix("Value error, ")
    if worst["type"] == "value_error" and (named := re.match(r"(\w+): (.*)", message)):
        param, message = named[1], named[2]
    if worst["type"] == "extra_forbidden":
        return InvalidRequest(f"unsupported parameter: {param}", param=param, code="unsupported_parameter")
    return InvalidRequest(f"{param or 'body'}: {message}", param=param or None)


def _param(found: Any, body: Any) -> str:
    """`messages[0].content[1].text` from pydantic's location, whose union tags are not steps into the body."""
    path, here, tagged = "", body, False
    for place, step in enumerate(found["loc"], 1):
        if isinstance(step, int):
            path += f"[{step}]"
            here = here[step] if isinstance(here, list) and step < len(here) else None
            tagged = False
        elif step in _TAGS and not tagged and place < len(found["loc"]):
            tagged = True  # the same word may follow as a field: a text part has `text`
        elif isinstance(here, dict) and step in here:
            path += f".{step}" if path else step
            here = here[step]
            tagged = False
    last = _absent(found)
    return f"{path}.{last}" if path and last else path or last


def _absent(found: Any) -> str:
    """The field the error is about, where it is not in the body, or decides what else is."""
    if found["type"] == "missing":
        return str(found["loc"][-1])
    if found["type"] in {"union_tag_invalid", "union_tag_not_found"}:
        return str(found["ctx"]["discriminator"]).strip("'")
    return ""


def nul_in(value: Any, path: str = "") -> str | None:
    """Where a NUL character stands; Postgres' texts cannot hold one, and no model was trained on any."""
    if isinstance(value, str):
        return (path or "body") if "\0" in value else None
    if isinstance(value, list):
        return next((found for i, item in enumerate(value) if (found := nul_in(item, f"{path}[{i}]"))), None)
    if isinstance(value, dict):
        inside = ((key, item, f"{path}.{key}" if path else key) for key, item in value.items())
        return next(
            (hit for key, item, at in inside if (hit := (path or "body") if "\0" in key else nul_in(item, at))), None
        )
    return None
