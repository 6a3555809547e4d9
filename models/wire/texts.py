"""What is OpenAI's older completion, whose prompt is a text?  A request is read as a chat's, an answer is written as `text_completion`.

The prompt goes to the model as it stands (`raw`), unless `raw: false` has it go through the chat template, as a user's message.  Only
what differs from a chat is looked at here; the rest, and the whole again, `models.wire.chat` validates.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, field_validator

from models.errors import InvalidRequest
from models.wire.problems import validated

MAX_TOKENS = 16
"""As with OpenAI, where the request does not say."""
CHATS_OWN = frozenset(
    {"messages", "tools", "tool_choice", "parallel_tool_calls", "top_logprobs", "max_completion_tokens", "modalities"}
    | {"functions", "function_call", "continue_final_message", "background"}
)
_AHEAD_CHARACTERS = 32
"""How far behind its place a token's text is looked for; longer tokens are rare, and only their offset is less exact."""


class TextRequest(BaseModel):
    """What a chat's request says otherwise, or not at all."""

    model_config = ConfigDict(extra="allow", strict=True)

    prompt: Annotated[str, Field(min_length=1)] | Annotated[list[Any], Field(min_length=1)]
    raw: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    best_of: Literal[1] | None = None

    @field_validator("prompt")
    @classmethod
    def _is_one_text(cls, prompt: str | list[Any]) -> str:
        if isinstance(prompt, str):
            return prompt
        if not all(isinstance(each, str) for each in prompt):
            raise ValueError("token ids are not taken, as one that the model lacks would stop the engine; send text")
        if len(prompt) > 1:
            raise ValueError("a request has one prompt")
        if not prompt[0]:
            raise ValueError("a prompt must not be empty")
        return str(prompt[0])


def refuse(body: Mapping[str, Any], names: frozenset[str]) -> None:
    """Raises InvalidRequest for the first of `names` that the body has, as for one that nobody knows."""
    if found := next((name for name in body if name in names), None):
        raise InvalidRequest(f"unsupported parameter: {found}", param=found, code="unsupported_parameter")


def chat_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body of the chat that a completion's body stands for.  Raises InvalidRequest."""
    refuse(body, CHATS_OWN)
    wanted = validated(TextRequest, body)
    chat = {name: value for name, value in body.items() if name not in TextRequest.model_fields}
    chat["messages"] = [{"role": "user", "content": wanted.prompt}]
    chat["max_tokens"] = MAX_TOKENS if body.get("max_tokens") is None else body["max_tokens"]
    if wanted.raw is not False:
        chat["raw"] = True
    if wanted.logprobs is not None:
        chat |= {"logprobs": True, "top_logprobs": wanted.logprobs}
    return chat


def text_completion(completion: Mapping[str, Any]) -> dict[str, Any]:
    choices = [_choice(choice, choice["message"].get("content") or "", _Offsets()) for choice in completion["choices"]]
    return {**completion, **_named(completion), "choices": choices}


class TextChunks:
    """One stream's chunks, one after the other, as `text_completion`s."""

    def __init__(self) -> None:
        self._offsets: dict[int, _Offsets] = {}

    def __call__(self, chunk: bytes) -> list[bytes]:
        told = orjson.loads(chunk)
        choices = [self._choice(choice) for choice in told["choices"] if _says_something(choice)]
        if told["choices"] and not choices:
            return []
        return [orjson.dumps({**told, **_named(told), "choices": choices})]

    def _choice(self, choice: Mapping[str, Any]) -> dict[str, Any]:
        offsets = self._offsets.setdefault(choice["index"], _Offsets())
        return _choice(choice, choice["delta"].get("content") or "", offsets)


def _says_something(choice: Mapping[str, Any]) -> bool:
    """More than who speaks, which a text does not tell."""
    return bool(choice["delta"].get("content") or choice["logprobs"] or choice["finish_reason"])


def _named(told: Mapping[str, Any]) -> dict[str, str]:
    return {"id": told["id"].removeprefix("chat"), "object": "text_completion"}


def _choice(choice: Mapping[str, Any], text: str, offsets: "_Offsets") -> dict[str, Any]:
    logprobs = choice.get("logprobs")
    told = None if logprobs is None else _logprobs(logprobs["content"], offsets.of(text, logprobs["content"]))
    return {"text": text, "index": choice["index"], "logprobs": told, "finish_reason": choice["finish_reason"]}


def _logprobs(tokens: list[dict[str, Any]], offsets: list[int]) -> dict[str, Any]:
    tops = [{each["token"]: each["logprob"] for each in token["top_logprobs"]} or None for token in tokens]
    return {
        "tokens": [token["token"] for token in tokens],
        "token_logprobs": [token["logprob"] for token in tokens],
        "top_logprobs": tops if any(tops) else None,
        "text_offset": offsets,
    }


class _Offsets:
    """Where each token stands in the text: special tokens have no text of their own, parts of a character share its place."""

    def __init__(self) -> None:
        self._text, self._at = "", 0

    def of(self, text: str, tokens: list[dict[str, Any]]) -> list[int]:
        self._text += text
        return [self._place(token["token"]) for token in tokens]

    def _place(self, token: str) -> int:
        found = self._text.find(token, self._at, self._at + len(token) + _AHEAD_CHARACTERS)
        if found < 0:
            return self._at
        self._at = found + len(token)
        return found
