"""Which functions does the expression language have, and what may they cost?

Each takes the budget and plain JSON values; `size_of` what it was given has been paid for when it is called, and what it makes is
checked afterwards.  No function takes or returns anything but JSON's kinds of values.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from models.errors import TooLarge
from models.grading.patterns import count_in, first_in, found_in, steps_of
from models.grading.similarity import METRICS, similarity

BUDGET = 200_000
"""Steps, or 64 characters touched; a hundred milliseconds or so."""
CHARACTERS_A_STEP = 64
ELEMENTS_MOST = 100_000
CHARACTERS_MOST = 1_000_000
NUMBER_MOST = 10**18
_DIGITS_MOST = 15
_SLOW_STEPS = 2_000
"""What a pattern, or a comparison of texts, costs beside the texts' size."""
_PAIRS_A_STEP = 2_000
"""Some comparisons look at every pair of words, or of characters."""
_NUMBER = re.compile(r"(?:(?<![\w.])[-+])?[0-9][0-9,]*(?:[.][0-9]+)?")

RAISED = (TypeError, ValueError, ArithmeticError, LookupError, RecursionError, TooLarge)
"""What a computation may end with."""


class Budget:
    def __init__(self) -> None:
        self._left = BUDGET

    def spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise ValueError("it takes too many steps")


def size_of(value: Any) -> int:
    """Steps that going through a value costs; it stops counting at what no budget holds, since lists may hold one another often."""
    if not isinstance(value, str | list | Mapping):
        return 0
    steps, left = 0, [value]
    while left and steps <= BUDGET:
        here = left.pop()
        steps += len(here) // CHARACTERS_A_STEP if isinstance(here, str) else len(here)
        if not isinstance(here, str):
            inside = here.values() if isinstance(here, Mapping) else here
            left += [each for each in inside if isinstance(each, str | list | Mapping)]
    return steps


def checked(value: Any) -> Any:
    """The value, if it is of a size that may go on."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        if not abs(value) <= NUMBER_MOST:  # also what is not a number
            raise ValueError("a number is too large, or is none")
    elif isinstance(value, str):
        if len(value) > CHARACTERS_MOST:
            raise ValueError("a text is too long")
    elif isinstance(value, list | Mapping):
        if len(value) > ELEMENTS_MOST:
            raise ValueError("a list is too long")
    else:
        raise TypeError("a value is of no kind that JSON has")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is wanted")
    return value


def _number(value: Any) -> float:
    if not isinstance(value, int | float):
        raise TypeError("a number is wanted")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list | Mapping):
        raise TypeError("a list is wanted")
    return list(value)


def _len(_: Budget, value: Any) -> int:
    if not isinstance(value, str | list | Mapping):
        raise TypeError("len wants a text, a list or an object")
    return len(value)


def _most(choose: Callable[[Any], Any]) -> Callable[..., Any]:
    def chosen(_: Budget, *values: Any) -> Any:
        return choose(_list(values[0]) if len(values) == 1 else values)

    return chosen


def _round(_: Budget, value: Any, digits: Any = 0) -> float:
    if not isinstance(digits, int) or abs(digits) > _DIGITS_MOST:
        raise ValueError(f"round takes at most {_DIGITS_MOST} digits")
    return round(_number(value), digits)


def _float(_: Budget, value: Any) -> float:
    """Of a text, too: `1,234.50 `."""
    if isinstance(value, str):
        value = value.strip().replace(",", "")
        if len(value) > 2 * _DIGITS_MOST:
            raise ValueError("no number is that long")
    return float(value)


def _str(_: Budget, value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _json(_: Budget, text: Any) -> Any:
    """None where it is no JSON."""
    try:
        return orjson.loads(_text(text))
    except orjson.JSONDecodeError:
        return None


def _replace(budget: Budget, text: Any, old: Any, new: Any) -> str:
    grown = len(_text(text)) + _text(text).count(_text(old)) * len(_text(new))
    if grown > CHARACTERS_MOST:
        raise ValueError("a text is too long")
    budget.spend(grown // CHARACTERS_A_STEP)
    return str(text.replace(old, new))


def _join(budget: Budget, separator: Any, values: Any) -> str:
    texts = [_text(each) for each in _list(values)]
    length = sum(map(len, texts)) + len(_text(separator)) * len(texts)
    if length > CHARACTERS_MOST:
        raise ValueError("a text is too long")
    budget.spend(length // CHARACTERS_A_STEP)
    return str(separator.join(texts))


def _split(budget: Budget, text: Any, separator: Any = None) -> list[str]:
    parts: list[str] = _text(text).split(separator if separator is None else _text(separator))
    budget.spend(len(parts))
    return parts


def _get(_: Budget, holder: Any, key: Any, default: Any = None) -> Any:
    if isinstance(holder, Mapping):
        return holder.get(_text(key), default)
    index = int(_number(key))
    values = _list(holder)
    return values[index] if -len(values) <= index < len(values) else default


def _similarity(budget: Budget, metric: Any, text: Any, reference: Any) -> float:
    if metric not in METRICS:
        raise ValueError(f"similarity knows {', '.join(METRICS)}")
    budget.spend(_SLOW_STEPS + len(_text(text)) * len(_text(reference)) // _PAIRS_A_STEP)
    return similarity(metric, text, reference)


def _pattern(ask: Callable[[str, str], Any]) -> Callable[[Budget, Any, Any], Any]:
    def asked(budget: Budget, pattern: Any, text: Any) -> Any:
        budget.spend(_SLOW_STEPS + steps_of(_text(pattern), _text(text)))
        return ask(_text(pattern), _text(text))

    return asked


def _last_number(_: Budget, text: Any) -> float | None:
    """The last number that a text names, as the answers of sums do (`#### 1,250.`); None where it names none."""
    found = _NUMBER.findall(_text(text))
    return float(found[-1].replace(",", "")) if found else None


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": lambda _, value: abs(_number(value)),
    "all": lambda _, values: all(_list(values)),
    "any": lambda _, values: any(_list(values)),
    "bool": lambda _, value: bool(value),
    "ceil": lambda _, value: math.ceil(_number(value)),
    "count": lambda _, text, part: _text(text).count(_text(part)),
    "endswith": lambda _, text, end: _text(text).endswith(_text(end)),
    "exp": lambda _, value: math.exp(_number(value)),
    "find": _pattern(first_in),
    "float": _float,
    "floor": lambda _, value: math.floor(_number(value)),
    "get": _get,
    "int": lambda budget, value: int(_float(budget, value)),
    "join": _join,
    "json": _json,
    "last_number": _last_number,
    "len": _len,
    "log": lambda _, value: math.log(_number(value)),
    "lower": lambda _, text: _text(text).lower(),
    "matches": _pattern(found_in),
    "matches_count": _pattern(count_in),
    "max": _most(max),
    "min": _most(min),
    "replace": _replace,
    "round": _round,
    "similarity": _similarity,
    "split": _split,
    "sqrt": lambda _, value: math.sqrt(_number(value)),
    "startswith": lambda _, text, start: _text(text).startswith(_text(start)),
    "str": _str,
    "strip": lambda _, text: _text(text).strip(),
    "sum": lambda _, values: math.fsum(_number(each) for each in _list(values)),
    "upper": lambda _, text: _text(text).upper(),
    "words": lambda budget, text: _split(budget, text, None),
}
