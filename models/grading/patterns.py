"""Does a pattern of a stranger's occur in a text?  By RE2, whose time grows with the text and not with the pattern's tricks.

RE2 comes with pyarrow.  What it does not know (look-around, references back) is refused in words.  At its slowest RE2 follows every
state of a pattern at every character, and ten characters can make thousands of states: `steps_of` says what that may cost.
"""

import re
from functools import lru_cache
from typing import Any

from models.errors import InvalidRequest

PATTERN_CHARACTERS = 1_000
_STATES_A_STEP = 100
"""Looked at in a microsecond or so."""
_COMPILED_AS = 100
"""Making a state takes as long as looking at it so often, at most."""
_REPEATS_MOST = 1_000
"""RE2 refuses more."""
_SEVERAL, _MANY = 3, 400
"""States of a set of characters: those of `.` that are followed at once; all of `\\pL`, since making them takes longest."""
_TOKEN = re.compile(
    r"(?P<quoted>\\Q.*?(?:\\E|\Z))|(?P<many>\\[pP])|(?P<several>\\.|\.)|(?P<set>\[\^?\]?(?:\\.|[^\]\\])*\])"
    r"|(?P<repeat>\{(?P<least>\d{1,9})(?:,(?P<most>\d{1,9})?)?\})"
    r"|(?P<open>\()|(?P<close>\))|(?P<sign>[*+?|])|(?P<plain>.)",
    re.DOTALL,
)
_PIECE = re.compile(r"\\Q.*?(?:\\E|$)|\\.|\[\^?\]?(?:\[:\w+:\]|\\.|[^\]\\])*\]|\((?!\?)", re.DOTALL)
"""What is quoted, escaped or a class, where a bracket is itself; or a bracket that opens a group without a name."""


def found_in(pattern: str, text: str) -> bool:
    """Raises InvalidRequest for what is no pattern."""
    return bool(_asked("match_substring_regex", pattern, text))


def count_in(pattern: str, text: str) -> int:
    """How often, without overlaps."""
    return int(_asked("count_substring_regex", pattern, text))


def first_in(pattern: str, text: str) -> str | None:
    """The first part of the text that matches."""
    plain = _PIECE.sub(lambda piece: "(?:" if piece[0] == "(" else piece[0], _short(pattern))  # pyarrow wants all named
    try:
        found = _compute().extract_regex(_array(text), pattern=f"(?P<found>{plain})")[0].as_py()
    except (ValueError, KeyError) as error:
        raise _refused(error) from None
    return None if found is None else str(found["found"])


def check_pattern(pattern: str) -> None:
    found_in(pattern, "")


def steps_of(pattern: str, text: str) -> int:
    """What looking for the pattern costs at most, in steps of a microsecond or so."""
    return _states(pattern) * (len(text) + _COMPILED_AS) // _STATES_A_STEP


def _states(pattern: str) -> int:
    """Rather too many than too few."""
    groups, last = [0], 0  # the states of each group that is open; those of what a repetition would repeat
    for token in _TOKEN.finditer(pattern):
        kind = token.lastgroup
        if kind == "open":
            groups.append(0)
        elif kind == "sign":
            groups[-1] += 1
        elif kind == "repeat":
            times = min(_REPEATS_MOST, max(int(token["least"]), int(token["most"] or 0), 1))
            groups[-1] += last * (times - 1)
            last *= times
        else:
            last = 2 + groups.pop() if kind == "close" and len(groups) > 1 else _weight(kind, token[0])
            groups[-1] += last
    return sum(groups)


def _weight(kind: str | None, token: str) -> int:
    if kind == "set":
        return _SEVERAL + _MANY * (token.count("\\p") + token.count("\\P"))
    return {"several": _SEVERAL, "many": _MANY}.get(kind or "", len(token.encode(errors="replace")))


def _asked(function: str, pattern: str, text: str) -> Any:
    try:
        return getattr(_compute(), function)(_array(text), pattern=_short(pattern))[0].as_py()
    except (ValueError, KeyError) as error:  # pyarrow's ArrowInvalid is a ValueError
        raise _refused(error) from None


def _array(text: str) -> Any:
    import pyarrow as pa  # type: ignore[import-untyped]  # noqa: PLC0415

    return pa.array([text])


@lru_cache(maxsize=1)
def _compute() -> Any:
    from pyarrow import compute  # noqa: PLC0415 -- 0.1 s, for whoever uses patterns

    return compute


def _short(pattern: str) -> str:
    if len(pattern) > PATTERN_CHARACTERS:
        raise InvalidRequest(f"a pattern has at most {PATTERN_CHARACTERS:,} characters")
    return pattern


def _refused(error: Exception) -> InvalidRequest:
    return InvalidRequest(f"not a pattern of RE2's: {str(error)[:200]}")
