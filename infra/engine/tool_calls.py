"""What does an engine's answer call?  Its chunks as OpenAI would send them, whoever reads the calls: the engine or we.

Our engines are started without a parser: SGLang 0.5.23's for Mistral wants a space before the list of calls, which the real models
do not write, and swallows what comes without; of a list it streams only the first call as a call.  So calls come as text, and
`infra.engine.call_text` reads them.  What an engine with a parser has read goes through; the rest of its list is found in its text.

`shaped` asks for what such a parser would have asked for: a grammar, where the model is not free in how it calls.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from infra.engine.call_text import MARKER, CallText

_ANY = {"type": "object"}


class CallReader:
    """One a job; `read` takes each chunk's cleaned choices and returns those to send instead.

    `parallel` False: of an answer's calls only the first is let through.  `bare`: the text may begin with the list of calls.
    """

    def __init__(self, *, parallel: bool = True, bare: bool = False) -> None:
        self._parallel, self._bare = parallel, bare
        self._texts: dict[int, CallText] = {}

    def read(self, choices: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [choice for choice in choices if self._passes(choice) or self._rewrite(choice)]

    def _passes(self, choice: dict[str, Any]) -> bool:
        """Whether there is nothing to read in it: plain text, on the path of every token."""
        text, delta = self._texts.get(choice["index"]), choice["delta"]
        if text is None:
            text = self._texts[choice["index"]] = CallText(bare=self._bare)
        plain = text.is_plain and "[" not in delta.get("content", "") and "tool_calls" not in delta
        return plain and not (text.calls and choice["finish_reason"])

    def _rewrite(self, choice: dict[str, Any]) -> bool:
        """Whether anything is left to send."""
        text, delta = self._texts[choice["index"]], choice["delta"]
        told = delta.pop("tool_calls", [])
        if told:
            text.follows(max(call["index"] for call in told) + 1)
        said, found = text.feed(delta.pop("content", ""), last=choice["finish_reason"] is not None)
        if said or "role" in delta:
            delta["content"] = said
        if calls := self._let_through(told + found):
            delta["tool_calls"] = calls
        if text.calls and choice["finish_reason"] == "stop":
            choice["finish_reason"] = "tool_calls"
        return bool(delta or choice["finish_reason"] or choice["logprobs"])

    def _let_through(self, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return calls if self._parallel else [call for call in calls if call["index"] == 0]


def reader_for(wanted: Mapping[str, Any]) -> CallReader | None:
    """None where the request lets nothing be called."""
    if not wanted.get("tools") or _wish(wanted) == "none":
        return None
    return CallReader(parallel=wanted.get("parallel_tool_calls") is not False, bare=_wish(wanted) != "auto")


def shaped(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What of a request changes where SGLang leaves calls to us; nothing, where the model is free.

    SGLang's own way with a call that is required is another layout than the model has learnt, and compiles every tool's schema,
    also those that are not strict and that nobody has checked.
    """
    tools, required = wanted.get("tools") or (), _wish(wanted) not in {"auto", "none"}
    is_strict = any(tool["function"].get("strict") for tool in tools)
    if not tools or _wish(wanted) == "none" or not (required or is_strict):
        return {}
    return {"tool_choice": "auto", "response_format": _grammar(tools, required=required)}


def _grammar(tools: Iterable[Mapping[str, Any]], *, required: bool) -> dict[str, Any]:
    """One list of calls, and nothing behind it.  Who wants one call is not served by it: kept from a second, a model says odd things."""
    calls = {
        "type": "tags_with_separator",
        "tags": [_call(tool["function"]) for tool in tools],
        "separator": ", ",
        "at_least_one": True,
    }
    lists = [{"type": "tag", "begin": f"{MARKER}{space}[", "content": calls, "end": "]"} for space in ("", " ")]
    triggered = {
        "type": "triggered_tags",
        "triggers": [MARKER],
        "tags": lists,
        "at_least_one": required,
        "stop_after_first": True,
    }
    return {"type": "structural_tag", "format": triggered}


def _call(function: Mapping[str, Any]) -> dict[str, Any]:
    schema = (function.get("parameters") or _ANY) if function.get("strict") else _ANY
    begin = f'{{"name": "{function["name"]}", "arguments": '
    return {"type": "tag", "begin": begin, "content": {"type": "json_schema", "json_schema": schema}, "end": "}"}


def _wish(wanted: Mapping[str, Any]) -> str:
    choice = wanted.get("tool_choice") or "auto"
    return choice if isinstance(choice, str) else "named"
