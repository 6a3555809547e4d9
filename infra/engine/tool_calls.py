"""Where did the second of two streamed tool calls go?  SGLang 0.5.23's Mistral detector sends it as text; this puts it back.

Once the first call of `[TOOL_CALLS] [{...}, {...}]` is read, the marker is gone from the detector's buffer, and the rest of the
list comes as content: `, {"name": ..., "arguments": {...}}`.  So after a choice's first call its content is held back and read as
what it is.  Content that turns out not to be calls is let go unchanged at the choice's end.
"""

import json
import re
import secrets
from typing import Any

_SEPARATOR = re.compile(r"[\s,\]]*")


class ToolCallMender:
    """One a job; `mend` takes each chunk's cleaned choices and returns those to send instead.

    `parallel` False: of an answer's calls only the first is let through.  SGLang's Mistral grammars do not heed the wish.
    """

    def __init__(self, *, parallel: bool = True) -> None:
        self._parallel = parallel
        self._calls: dict[int, int] = {}  # calls seen, by choice
        self._held: dict[int, str] = {}

    def mend(self, choices: list[dict[str, Any]]) -> list[dict[str, Any]]:
        mended = [each for choice in choices for each in self._mend(choice)]
        return mended if self._parallel else [each for each in mended if _is_first_call(each)]

    def _mend(self, choice: dict[str, Any]) -> list[dict[str, Any]]:
        index, delta = choice["index"], choice["delta"]
        for call in delta.get("tool_calls") or ():
            self._calls[index] = max(self._calls.get(index, 0), call["index"] + 1)
        if index not in self._calls:
            return [choice]
        self._held[index] = self._held.get(index, "") + (delta.pop("content", None) or "")
        found = self._read(index)
        if choice["finish_reason"] and not _SEPARATOR.fullmatch(text := self._held.pop(index)):
            delta["content"] = text
        if not delta and not choice["finish_reason"]:
            return found
        return [*found, choice]

    def _read(self, index: int) -> list[dict[str, Any]]:
        """The calls that stand whole in the held text."""
        found = []
        text = self._held[index]
        while (start := _SEPARATOR.match(text)) and (call := _call_at(text, start.end())):
            name, arguments, end = call
            found.append(_chunk(index, self._calls[index], name, arguments))
            self._calls[index] += 1
            text = text[end:]
        self._held[index] = text
        return found


def _is_first_call(choice: dict[str, Any]) -> bool:
    """Whether anything is left to send without the calls behind the first, which are taken out."""
    delta = choice["delta"]
    if not (calls := delta.pop("tool_calls", None)):
        return True
    if first := [call for call in calls if call["index"] == 0]:
        delta["tool_calls"] = first
    return bool(delta) or choice["finish_reason"] is not None


def _call_at(text: str, position: int) -> tuple[str, str, int] | None:
    try:
        value, end = json.JSONDecoder().raw_decode(text, position)
    except json.JSONDecodeError:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    return value["name"], json.dumps(arguments, ensure_ascii=False), end


def _chunk(choice: int, number: int, name: str, arguments: str) -> dict[str, Any]:
    call = {
        "id": f"call_{secrets.token_hex(12)}",
        "index": number,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }
    return {"index": choice, "delta": {"tool_calls": [call]}, "logprobs": None, "finish_reason": None}
