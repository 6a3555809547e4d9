"""How does a recorded turn become a request again, and is the new answer the old one?

Pure rules over recorded values.  A comparison looks at what a reader would see: the text and the calls made; the ids that engines
invent for calls do not count.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

_LIMITS = {"max_tokens", "max_completion_tokens"}  # two names for one thing: an override of either is of both
EXCERPT_CHARACTERS = 40
"""How much of both texts is shown around the first difference."""


class Verdict(StrEnum):
    IDENTICAL = "identical"
    """Every character and every call is the same."""
    DIVERGED = "diverged"
    """They part at `position`."""
    PENDING = "pending"
    """The new answer is not there yet."""
    NOT_COMPARABLE = "not_comparable"
    """One of the two has no answer."""


@dataclass(frozen=True, slots=True)
class Comparison:
    verdict: Verdict
    position: int | None = None
    """Character at which the two part."""
    recorded: str | None = None
    replayed: str | None = None


def request_again(
    parameters: Mapping[str, Any], messages: list[dict[str, Any]], model: str, overrides: Mapping[str, Any]
) -> dict[str, Any]:
    """The body of the recorded request, changed where `overrides` says so (None takes a parameter away)."""
    dropped = {"stream", "stream_options"} | (_LIMITS if _LIMITS & overrides.keys() else set())
    kept = {key: value for key, value in parameters.items() if key not in dropped}
    changed = {key: value for key, value in (kept | dict(overrides)).items() if value is not None}
    return changed | {"model": model, "messages": messages}


def compare(recorded: Mapping[str, Any] | None, replayed: Mapping[str, Any] | None) -> Comparison:
    """Of two assistant messages."""
    if recorded is None or replayed is None:
        return Comparison(Verdict.NOT_COMPARABLE)
    before, after = _seen(recorded), _seen(replayed)
    if before == after:
        return Comparison(Verdict.IDENTICAL)
    position = _parting(before[0], after[0])
    if before[0] == after[0]:
        position += _parting(before[1], after[1])
    return Comparison(Verdict.DIVERGED, position, _around("".join(before), position), _around("".join(after), position))


def _seen(message: Mapping[str, Any]) -> tuple[str, str]:
    """The text, and the calls written out: a text that only looks like calls is not the same as they."""
    calls = [[call["function"]["name"], call["function"]["arguments"]] for call in message.get("tool_calls") or ()]
    return message.get("content") or "", orjson.dumps(calls).decode() if calls else ""


def _parting(before: str, after: str) -> int:
    pairs = enumerate(zip(before, after, strict=False))
    return next((position for position, (old, new) in pairs if old != new), min(len(before), len(after)))


def _around(text: str, position: int) -> str:
    return text[max(0, position - EXCERPT_CHARACTERS) : position + EXCERPT_CHARACTERS]
