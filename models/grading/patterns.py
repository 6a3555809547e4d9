"""Does a pattern of a stranger's occur in a text?  By RE2, whose time grows with the text and not with the pattern's tricks.

RE2 comes with pyarrow.  What it does not know (look-around, references back) is refused in words.
"""

import re
from functools import lru_cache
from typing import Any

from models.errors import InvalidRequest

PATTERN_CHARACTERS = 1_000
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
