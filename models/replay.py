"""How does a recorded turn become a request again?  As it was, but for what the replay is asked to change.  Pure rules."""

from collections.abc import Mapping, Sequence
from typing import Any

_LIMITS = {"max_tokens", "max_completion_tokens"}  # two names for one thing: an override of either is of both
_NO_PARAMETERS = {"model", "system"}
_SYSTEM = {"system", "developer"}


def request_again(
    parameters: Mapping[str, Any], messages: list[dict[str, Any]], model: str, overrides: Mapping[str, Any]
) -> dict[str, Any]:
    """The body of the recorded request, changed where `overrides` says so (None takes a parameter away)."""
    dropped = {"stream", "stream_options"} | (_LIMITS if _LIMITS & overrides.keys() else set())
    kept = {key: value for key, value in parameters.items() if key not in dropped}
    changes = {key: value for key, value in overrides.items() if key not in _NO_PARAMETERS}
    changed = {key: value for key, value in (kept | changes).items() if value is not None}
    return changed | {"model": model, "messages": with_system(messages, overrides)}


def with_system(messages: list[dict[str, Any]], overrides: Mapping[str, Any]) -> list[dict[str, Any]]:
    """`system` in the place of the messages of that role that come first; None takes them away."""
    if "system" not in overrides:
        return messages
    begun = next((place for place, message in enumerate(messages) if message["role"] not in _SYSTEM), len(messages))
    text = overrides["system"]
    head = [] if text is None else [{"role": "system", "content": text}]
    return head + messages[begun:]


def changes(
    overrides: Mapping[str, Any],
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    cards: tuple[str, str] | None,
    systems: tuple[Any, Any] = (None, None),
) -> list[dict[str, Any]]:
    """Which overrides have changed anything, of the recorded (`before`) and the replayed parameters; naming what was so is no change.

    `cards` where another model was asked for: one that answered of its own accord is a matter of the environment.
    """
    pairs = {name: (before.get(name), after.get(name)) for name in overrides if name not in _NO_PARAMETERS}
    if "system" in overrides:
        pairs["system"] = systems
    if cards is not None:
        pairs["model"] = cards
    return [_change(name, old, new) for name, (old, new) in sorted(pairs.items()) if old != new]


def _change(name: str, old: Any, new: Any) -> dict[str, Any]:
    """Numbers with their values; texts and tools by their name alone, since they go when their turn is deleted."""
    short = name == "model" or all(value is None or isinstance(value, bool | int | float) for value in (old, new))
    return {"parameter": name} | ({"recorded": old, "replayed": new} if short else {})


def system_of(messages: Sequence[Mapping[str, Any]]) -> Any:
    """What stands before all others, where it is the system's."""
    return messages[0].get("content") if messages and messages[0]["role"] in _SYSTEM else None


def goes_on(answer: Mapping[str, Any] | None, added: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]] | None:
    """What a conversation adds behind a live answer; results of tools belong to the calls that were made now.

    None: it cannot go on, since there is no answer, or the recorded results answer other calls than were made.
    """
    if answer is None:
        return None
    results = [message for message in added if message["role"] == "tool"]
    calls = answer.get("tool_calls") or []
    if len(calls) != len(results):
        return None
    names = {result["tool_call_id"]: call["id"] for result, call in zip(results, calls, strict=True)}
    return [
        dict(message) | ({"tool_call_id": names[message["tool_call_id"]]} if message["role"] == "tool" else {})
        for message in added
    ]
