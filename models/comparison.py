"""Is the new answer the old one, where do they part, and how far are they apart?

Pure rules over recorded messages.  A comparison looks at what a reader would see: texts and calls; the ids that engines invent for
calls do not count.  A `Mode` says how closely it looks.  Whether a difference proves anything is `models.verdicts`' question.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import Any

import orjson
from rapidfuzz.distance import Indel

Message = Mapping[str, Any]

EXCERPT_CHARACTERS = 40
"""How much of both texts is shown around the first difference."""
MEASURED_CHARACTERS = 20_000
"""Of each text, for what grows with the square of its length."""


class Mode(StrEnum):
    EXACT = "exact"
    """Every character of the text, and of the calls' names and arguments."""
    TEXT = "text"
    """Words: runs of blanks count as one; arguments as JSON values."""
    JSON = "json"
    """JSON values, where both texts are JSON; else as `text`."""
    TOOLS = "tools"
    """The calls alone: names, and arguments as JSON values."""


@dataclass(frozen=True, slots=True)
class Difference:
    choice: int
    position: int
    """Character at which the two part, in what the mode looks at."""
    recorded: str
    replayed: str


def first_difference(before: Sequence[Message], after: Sequence[Message], mode: Mode) -> Difference | None:
    """Choice by choice; None: the same."""
    for choice in range(max(len(before), len(after))):
        old, new = (answers[choice] if choice < len(answers) else {} for answers in (before, after))
        if (found := _difference(choice, old, new, mode)) is not None:
            return found
    return None


def same_calls(before: Sequence[Message], after: Sequence[Message]) -> bool | None:
    """Names, and arguments as JSON values; None where neither has called anything."""
    old, new = ([_calls(each, exact=False) for each in answers] for answers in (before, after))
    return old == new if any(old) or any(new) else None


def similarity(before: Sequence[Message], after: Sequence[Message]) -> float:
    """0 to 1: the share of characters that stay, of the texts and calls of all choices."""
    old, new = ("\n".join(map(written, answers))[:MEASURED_CHARACTERS] for answers in (before, after))
    return round(Indel.normalized_similarity(old, new), 6)


def diff(before: Message, after: Message) -> list[dict[str, str]]:
    """Word by word: what is the `same`, `removed` and `added`, in order."""
    old, new = (_words(written(each)[:MEASURED_CHARACTERS]) for each in (before, after))
    parts: list[dict[str, str]] = []
    for same, steps in groupby(Indel.opcodes(old, new), lambda step: step.tag == "equal"):
        told = list(steps)
        left = "".join(word for step in told for word in old[step.src_start : step.src_end])
        put = "".join(word for step in told for word in new[step.dest_start : step.dest_end])
        named = {"same": left} if same else {"removed": left, "added": put}
        parts += [{"op": what, "text": text} for what, text in named.items() if text]
    return parts


def written(message: Message) -> str:
    """The text and the calls, as one text."""
    return "".join(_seen(message, Mode.EXACT))


def _difference(choice: int, old: Message, new: Message, mode: Mode) -> Difference | None:
    before, after = _both(old, new, mode)
    if before == after:
        return None
    position = common_length(before[0], after[0])
    if before[0] == after[0]:
        position += common_length(before[1], after[1])
    shown = (_around("".join(text), position) for text in (before, after))
    return Difference(choice, position, *shown)


def _both(old: Message, new: Message, mode: Mode) -> tuple[tuple[str, str], tuple[str, str]]:
    if mode is Mode.JSON:
        values = [_json(_text(each)) for each in (old, new)]
        if all(value is not None for value in values):
            before, after = (
                (_canonical(value), _calls(each, exact=False)) for value, each in zip(values, (old, new), strict=True)
            )
            return before, after
        mode = Mode.TEXT
    return _seen(old, mode), _seen(new, mode)


def _seen(message: Message, mode: Mode) -> tuple[str, str]:
    """The text, and the calls written out: a text that only looks like calls is not the same as they."""
    text = _text(message)
    if mode is Mode.EXACT:
        return text, _calls(message, exact=True)
    return "" if mode is Mode.TOOLS else " ".join(text.split()), _calls(message, exact=False)


def _text(message: Message) -> str:
    return message.get("content") or ""


def _calls(message: Message, *, exact: bool) -> str:
    made = [call["function"] for call in message.get("tool_calls") or ()]
    told = [[call["name"], call["arguments"] if exact else _value(call["arguments"])] for call in made]
    return _canonical(told) if told else ""


def _value(arguments: str) -> Any:
    """Arguments that are no JSON are what they are."""
    value = _json(arguments)
    return arguments if value is None else value[0]


def _json(text: str) -> list[Any] | None:
    """In a list, since null is JSON too."""
    try:
        return [orjson.loads(text)]
    except orjson.JSONDecodeError:
        return None


def _canonical(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def common_length(before: str, after: str) -> int:
    """So many characters are the same at the beginning."""
    pairs = enumerate(zip(before, after, strict=False))
    return next((position for position, (old, new) in pairs if old != new), min(len(before), len(after)))


def _around(text: str, position: int) -> str:
    return text[max(0, position - EXCERPT_CHARACTERS) : position + EXCERPT_CHARACTERS]


def _words(text: str) -> list[str]:
    """Each with the blanks behind it, so that joined they are the text."""
    return list(_split(text))


def _split(text: str) -> Iterator[str]:
    begun = 0
    for place in range(1, len(text)):
        if text[place - 1].isspace() and not text[place].isspace():
            yield text[begun:place]
            begun = place
    if text:
        yield text[begun:]
