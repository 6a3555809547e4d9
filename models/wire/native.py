"""What is Cloudflare's own way to ask a model?  Its body is read as a chat's, the answer is written as Workers AI writes it.

Source: Workers AI's REST API (text generation, JSON mode, traditional function calling, asynchronous batches).  Only what differs
from a chat is looked at here; the rest `models.wire.chat` validates.  What a native answer has no place for is refused by name.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.ids import SERIES_MOST
from models.wire.chat import METADATA_CHARACTERS, Metadata
from models.wire.messages import TOOLS_MOST, Function
from models.wire.problems import validated
from models.wire.stream import Answer
from models.wire.texts import refuse

MAX_TOKENS = 256
"""Cloudflare's, where the request does not say."""
REFERENCE = "external_reference"
"""Under this name a batch's job keeps its caller's reference in its metadata."""
NO_PLACE = frozenset({"model", "n", "logprobs", "top_logprobs", "stream_options", "background", "function_call"})


class NativeRequest(BaseModel):
    """What a chat's request says otherwise, or not at all."""

    model_config = ConfigDict(extra="allow", strict=True)

    prompt: Annotated[str, Field(min_length=1)] | None = None
    raw: bool | None = None
    functions: Annotated[list[Function], Field(min_length=1, max_length=TOOLS_MOST)] | None = None
    """Deprecated there; the code that may stand beside each is for Cloudflare's own client to run."""

    @model_validator(mode="after")
    def _asks_once(self) -> "NativeRequest":
        extra = self.model_extra or {}
        if (self.prompt is None) == (extra.get("messages") is None):
            raise ValueError("prompt: send either this or messages")
        if self.raw and self.prompt is None:
            raise ValueError("raw: needs a prompt")
        if self.functions and extra.get("tools"):
            raise ValueError("functions: send either these or tools")
        return self


class BatchRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    requests: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=SERIES_MOST)]
    queueRequest: bool | None = None  # noqa: N815


class BatchPoll(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    request_id: Annotated[str, Field(max_length=64)]
    queueRequest: bool | None = None  # noqa: N815


class Referred(BaseModel):
    """A request of a batch, in what it has beside a request that stands alone."""

    model_config = ConfigDict(extra="allow", strict=True)

    external_reference: Annotated[str, Field(max_length=METADATA_CHARACTERS)] | None = None
    metadata: Metadata | None = None


def chat_of(body: Mapping[str, Any], model: str) -> dict[str, Any]:
    """The body of the chat that a native body stands for.  Raises InvalidRequest."""
    refuse(body, NO_PLACE)
    wanted = validated(NativeRequest, body)
    chat = {name: value for name, value in body.items() if name not in NativeRequest.model_fields}
    chat["model"] = model
    if body.get("max_tokens") is None and body.get("max_completion_tokens") is None:
        chat["max_tokens"] = MAX_TOKENS
    if wanted.prompt is not None:
        chat["messages"] = [{"role": "user", "content": wanted.prompt}]
    if wanted.raw:
        chat["raw"] = True
    if tools := body.get("functions") or body.get("tools"):
        chat["tools"] = [_tool(tool) for tool in tools] if isinstance(tools, list) else tools
    if isinstance(shape := body.get("response_format"), dict):
        chat["response_format"] = _openai_shape(shape)
    if body.get("stream") is True:
        chat["stream_options"] = {"include_usage": True}
    return chat


def _tool(tool: Any) -> Any:
    """Cloudflare's tool is OpenAI's function, without anything around it; it takes both."""
    return {"type": "function", "function": tool} if isinstance(tool, dict) and "name" in tool else tool


def _openai_shape(shape: dict[str, Any]) -> dict[str, Any]:
    """Cloudflare's `json_schema` is the schema itself; OpenAI's gives it a name, too."""
    schema = shape.get("json_schema")
    if not isinstance(schema, dict) or "schema" in schema:
        return shape
    return shape | {"json_schema": {"name": "response", "schema": schema}}


def result_of(completion: Mapping[str, Any], *, as_json: bool) -> dict[str, Any]:
    message = completion["choices"][0]["message"]
    text = message.get("content")
    return {
        "response": _parsed(text) if as_json else text,
        "tool_calls": _calls(message),
        "usage": completion["usage"],
    }


def wants_json(chat: Mapping[str, Any]) -> bool:
    """Whether the answer is a document, which Cloudflare hands out as such."""
    shape = chat.get("response_format") or {}
    return chat.get("guided_json") is not None or shape.get("type", "text") != "text"


def _parsed(text: str | None) -> Any:
    """One that was cut off at `max_tokens` is no document yet, and stays the text that it is."""
    try:
        return orjson.loads(text or "")
    except orjson.JSONDecodeError:
        return text


def _calls(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """With the ids, which a tool's message has to name."""
    return [
        {"id": call["id"], "name": call["function"]["name"], "arguments": _parsed(call["function"]["arguments"])}
        for call in message.get("tool_calls") or ()
    ]


def succeeded(result: Any) -> dict[str, Any]:
    return {"result": result, "success": True, "errors": [], "messages": []}


class NativeChunks:
    """One stream's chunks, one after the other: the text as it comes, then the calls, whole, and the usage."""

    def __init__(self) -> None:
        self._answer = Answer()

    def __call__(self, chunk: bytes) -> list[bytes]:
        told = orjson.loads(chunk)
        self._answer.add(told["choices"])
        said = [{"response": text} for choice in told["choices"] if (text := choice["delta"].get("content"))]
        if usage := told.get("usage"):
            said += [{"response": "", **last} for last in (*self._called(), {"usage": usage})]
        return [orjson.dumps(each) for each in said]

    def _called(self) -> Sequence[dict[str, Any]]:
        calls = [call for choice in self._answer.choices() for call in _calls(choice["message"])]
        return [{"tool_calls": calls}] if calls else []
