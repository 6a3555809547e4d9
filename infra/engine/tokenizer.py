"""How many tokens will the engine count in a prompt?

Answers before a job is accepted, with the card's own tokenizer and chat template, for the cards whose tokenizer is at hand.  Messages
are OpenAI's, already validated; what SGLang 0.5.23 does to them before its template sees them is done here alike (its
`entrypoints/openai/serving_chat.py`), so that the count equals the `usage.prompt_tokens` that follows.  One thing is not: a tool schema
with types that JSON Schema lacks ("varchar") is counted as written.

Work for a CPU, a millisecond for a thousand tokens: the caller decides on which thread.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from jinja2 import Template
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from infra.engine.image_tokens import tokens_of_images
from infra.engine.mistral_tokenizer import tekken
from infra.engine.server import chat_template, model_path
from models.cards.card import PACKAGED, Card
from models.errors import InvalidRequest

Message = Mapping[str, Any]
Tool = Mapping[str, Any]

_FUNCTION_FIELDS = {"name", "description", "parameters", "strict"}
_TEKKEN_TEMPLATE = "mistral-v7-tekken.jinja"
"""Of the cards whose model has Tekken's vocabulary."""
_PART_CHARS = 32_768  # 8,000 tokens, more or less
_BORDER = re.compile(r"(?<=[A-Za-z]) ")
_SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}


class PromptCounter:
    """Counts for one model; safe to share between threads."""

    def __init__(self, tokenizer: Tokenizer, template: str, *, sees_images: bool = False) -> None:
        self._tokenizer = tokenizer
        self._template = _template(template)
        self._keeps_parts = "image" in template  # SGLang goes by the word as well
        self._begins_text = len(tokenizer.encode(""))  # with <s>, unless told not to
        self._sees_images = sees_images

    def count(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
        *,
        continue_final_message: bool = False,
    ) -> int:
        """Prompt tokens of a chat request.  Raises `InvalidRequest` where a past tool call's arguments are no JSON object."""
        seen, begun = self._read(messages, continue_final_message=continue_final_message)
        shown = [_shown(tool) for tool in _offered(tools or (), tool_choice)]
        text = self._template.render(messages=seen, tools=shown or None, add_generation_prompt=True, **_SPECIAL)
        return self._tokens(text) + self._tokens(begun) + self._seen_beside_text(messages)

    def count_text(self, text: str) -> int:
        """Tokens of a raw prompt, to which no template is applied."""
        return self._tokens(text) + self._begins_text

    def _tokens(self, text: str) -> int:
        return sum(len(self._tokenizer.encode(part, add_special_tokens=False)) for part in _parts(text))

    def _read(self, messages: Sequence[Message], *, continue_final_message: bool) -> tuple[list[dict[str, Any]], str]:
        """What the template is given, and the beginning of the answer that stands after it."""
        seen = [_seen(message, index, keeps_parts=self._keeps_parts) for index, message in enumerate(messages)]
        last = seen[-1] if seen else {}
        if last.get("role") != "assistant" or not isinstance(last["content"], str):
            return seen, ""
        if not continue_final_message:
            return [*seen[:-1], {"role": "user", "content": last["content"]}], ""
        return seen[:-1], last["content"] if self._begins_text else last["content"].removeprefix(_SPECIAL["bos_token"])

    def _seen_beside_text(self, messages: Sequence[Message]) -> int:
        """An image is more than the one token that stands for it; without any, SGLang's models with eyes get a second <s>."""
        if not self._sees_images:
            return 0
        images = list(tokens_of_images(messages))
        return sum(images) - len(images) if images else self._begins_text


def counter_for(card: Card) -> PromptCounter | None:
    """None for a card whose tokenizer is not at hand."""
    if card.weights == PACKAGED:
        return _packaged(Path(model_path(card)))
    template = chat_template(card)
    if template is None or template.name != _TEKKEN_TEMPLATE:
        return None
    return _tekken(template, sees_images="image" in card.modalities)


@cache
def _packaged(folder: Path) -> PromptCounter:
    template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    return PromptCounter(Tokenizer.from_file(str(folder / "tokenizer.json")), template)


@cache
def _tekken(template: Path, *, sees_images: bool) -> PromptCounter:
    # A template that is named to SGLang is read so.
    text = template.read_text(encoding="utf-8").strip("\n").replace("\\n", "\n")
    return PromptCounter(tekken(), text, sees_images=sees_images)


def _parts(text: str) -> Iterator[str]:
    """To be encoded one after the other: a part takes the tokenizer 400 bytes a token while it is at it.

    No piece of text that becomes tokens, and no control token, reaches from a letter across a space: what is cut there counts the same.
    """
    begin = 0
    while border := _BORDER.search(text, begin + _PART_CHARS):
        yield text[begin : border.start()]
        begin = border.start()
    yield text[begin:]


def _template(text: str) -> Template:
    """As transformers compiles it: sandboxed, and `tojson` writes JSON rather than something to embed in HTML."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, autoescape=False)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.from_string(text)


def _seen(message: Message, index: int, *, keeps_parts: bool) -> dict[str, Any]:
    """A message as the template sees it: text parts joined or kept, arguments parsed, nothing that is null."""
    seen = {name: value for name, value in message.items() if value is not None}
    seen["content"] = _content(seen.get("content", ""), seen["role"], keeps_parts=keeps_parts)
    if calls := seen.get("tool_calls"):
        seen["tool_calls"] = [_call(call, f"messages[{index}].tool_calls[{n}]") for n, call in enumerate(calls)]
    return seen


def _content(
    content: str | Sequence[Mapping[str, Any]], role: str, *, keeps_parts: bool
) -> str | list[Mapping[str, Any]]:
    if isinstance(content, str):
        return content
    texts = [part["text"] for part in content if part["type"] == "text"]
    if keeps_parts and not (role == "tool" and len(texts) == len(content)):
        return [{"type": "image"} if part["type"] == "image_url" else part for part in content]
    return " ".join(texts)


def _call(call: Mapping[str, Any], where: str) -> dict[str, Any]:
    function = call["function"]
    arguments = _parsed(function.get("arguments"), f"{where}.function.arguments")
    return {"id": call.get("id"), "function": {"name": function.get("name"), "arguments": arguments}}


def _parsed(arguments: object, where: str) -> object:
    if not isinstance(arguments, str):
        return arguments
    try:
        parsed = orjson.loads(arguments)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest("the arguments of a tool call must be JSON", param=where) from error
    if not isinstance(parsed, dict):
        raise InvalidRequest("the arguments of a tool call must be a JSON object", param=where)
    return parsed


def _offered(tools: Sequence[Tool], choice: str | Mapping[str, Any] | None) -> Sequence[Tool]:
    """The tools that the prompt tells of: none, all, or the one that is named."""
    if choice == "none":
        return ()
    if not isinstance(choice, Mapping):
        return tools
    return [tool for tool in tools if tool["function"]["name"] == choice["function"]["name"]]


def _shown(tool: Tool) -> dict[str, Any]:
    """A tool as SGLang writes it: the function's fields in the caller's order, then the absent ones that it shows as null."""
    given = tool["function"]
    function = {name: given[name] for name in given if name in _FUNCTION_FIELDS}
    if function.get("strict") is None:
        function.pop("strict", None)
    absent = {name: None for name in ("description", "parameters") if name not in function}
    return {"type": tool["type"], "function": function | absent, "defer_loading": None}
