"""How many tokens will the engine count in a prompt?

Answers before a job is accepted, with the card's own tokenizer and chat template, for cards that ship them.  Messages are OpenAI's,
already validated; what SGLang 0.5.23 does to them before its template sees them is done here alike (its
`entrypoints/openai/serving_chat.py`), so that the count equals the `usage.prompt_tokens` that follows.  One thing is not: a tool schema
with types that JSON Schema lacks ("varchar") is counted as written.

Work for a CPU, half a millisecond for a thousand tokens: the caller decides on which thread.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from jinja2 import Template
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from infra.engine.server import model_path
from models.cards.card import PACKAGED, Card
from models.errors import InvalidRequest

Message = Mapping[str, Any]
Tool = Mapping[str, Any]

_FUNCTION_FIELDS = {"name", "description", "parameters", "strict"}


class PromptCounter:
    """Counts for one model; safe to share between threads."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._template = _template((folder / "chat_template.jinja").read_text(encoding="utf-8"))
        special = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        self._special = {name: special[name] for name in ("bos_token", "eos_token")}

    def count(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
        *,
        continue_final_message: bool = False,
    ) -> int:
        """Prompt tokens of a chat request.  Raises `InvalidRequest` where a past tool call's arguments are no JSON object."""
        seen, begun = _without_last_answer([_seen(message, index) for index, message in enumerate(messages)])
        if begun is not None and not continue_final_message:
            seen.append({"role": "user", "content": begun})
            begun = None
        shown = [_shown(tool) for tool in _offered(tools or (), tool_choice)]
        text = self._template.render(messages=seen, tools=shown or None, add_generation_prompt=True, **self._special)
        return self.count_text(text) + self.count_text((begun or "").removeprefix(self._special["bos_token"]))

    def count_text(self, text: str) -> int:
        """Tokens of a raw prompt, to which no template is applied."""
        return len(self._tokenizer.encode(text))


def counter_for(card: Card) -> PromptCounter | None:
    """None for a card whose tokenizer is not packaged."""
    return _counter(Path(model_path(card))) if card.weights == PACKAGED else None


@cache
def _counter(folder: Path) -> PromptCounter:
    return PromptCounter(folder)


def _template(text: str) -> Template:
    """As transformers compiles it: sandboxed, and `tojson` writes JSON rather than something to embed in HTML."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, autoescape=False)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.from_string(text)


def _seen(message: Message, index: int) -> dict[str, Any]:
    """A message as the template sees it: text parts joined, arguments parsed, nothing that is null."""
    seen = {name: value for name, value in message.items() if value is not None}
    seen["content"] = _joined(seen.get("content", ""))
    if calls := seen.get("tool_calls"):
        seen["tool_calls"] = [_call(call, f"messages[{index}].tool_calls[{n}]") for n, call in enumerate(calls)]
    return seen


def _joined(content: str | Sequence[Mapping[str, Any]]) -> str:
    if isinstance(content, str):
        return content
    return " ".join(part["text"] for part in content if part["type"] == "text")


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


def _without_last_answer(messages: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], str | None]:
    """SGLang takes an answer that comes last for one to continue, or for words of the user."""
    if messages and messages[-1]["role"] == "assistant":
        return messages[:-1], messages[-1]["content"]
    return messages, None


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
