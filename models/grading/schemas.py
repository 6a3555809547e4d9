"""Does a value fit a JSON schema that a stranger wrote?

References lead nowhere outside the schema.  Every keyword that is looked at costs a step, and more where it looks at much, since references
could double at each one and alternatives be tried on a million elements; a value that takes too many does not fit.  Patterns are matched by RE2, which needs time in
proportion to the text whatever the pattern is; `patternProperties`, which jsonschema matches by itself, is refused.
"""

from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import cache
from typing import Any

import orjson

from models.errors import InvalidRequest, TooLarge
from models.grading.effort import go_on
from models.grading.functions import size_of
from models.grading.patterns import found_in, steps_of

SCHEMA_BYTES = 65_536
_STEPS_MOST = 200_000
"""For one value: a second or two; a list of 50,000 numbers takes two thirds of it."""
_CHARACTERS_A_STEP = 64
_ELEMENTS_A_STEP = 4
_WRITTEN_A_STEP = 512
"""Bytes of JSON."""
_PATTERN_STEPS_A_STEP = 5
"""A keyword takes five microseconds."""
_COMPARES_WHOLE = frozenset({"const", "enum"})
_PROBLEM_CHARACTERS = 300

_spent: ContextVar[list[int]] = ContextVar("steps spent")


class _TooManySteps(Exception):
    pass


def schema_of(schema: Any, param: str) -> dict[str, Any]:
    """The schema, if it is one.  Raises InvalidRequest."""
    from jsonschema import Draft202012Validator, SchemaError  # type: ignore[import-untyped]  # noqa: PLC0415 -- 0.2 s

    if not isinstance(schema, dict):
        raise _wrong(param, "a JSON schema is wanted")
    try:
        if len(orjson.dumps(schema)) > SCHEMA_BYTES:
            raise _wrong(param, f"at most {SCHEMA_BYTES:,} bytes are taken")
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise _wrong(param, f"not a JSON schema: {error.message[:_PROBLEM_CHARACTERS]}") from None
    except (RecursionError, TypeError):
        raise _wrong(param, "not a JSON schema: nested too deeply") from None
    _check_patterns(schema, param)
    return schema


def problem(schema: Mapping[str, Any], value: Any) -> str | None:
    """What is wrong with a value, and where; None where it fits."""
    from referencing.exceptions import Unresolvable  # noqa: PLC0415 -- comes with jsonschema

    counting = _spent.set([0])
    try:
        found = next(_validator()(schema).iter_errors(value), None)
    except TooLarge:  # the time for everything together is over, which says nothing of the value
        raise
    except (Unresolvable, InvalidRequest) as error:
        return f"the schema cannot be followed: {str(error)[:_PROBLEM_CHARACTERS]}"
    except RecursionError:
        return "the schema, or the value, is nested too deeply"
    except _TooManySteps:
        return "it takes too many steps to tell whether the value fits"
    finally:
        _spent.reset(counting)
    return found and f"{found.json_path}: {found.message[:_PROBLEM_CHARACTERS]}"


def _check_patterns(schema: dict[str, Any], param: str) -> None:
    left: list[Any] = [schema]
    for here in left:
        if isinstance(here, dict) and "patternProperties" in here:
            raise _wrong(param, "patternProperties is not taken; use propertyNames with a pattern")
        if isinstance(here, dict) and isinstance(here.get("pattern"), str):
            go_on()  # making one may take forty milliseconds
            found_in(here["pattern"], "")
        left += here.values() if isinstance(here, dict) else here if isinstance(here, list) else ()


@cache
def _validator() -> Callable[[Any], Any]:
    from jsonschema import Draft202012Validator, ValidationError  # noqa: PLC0415
    from jsonschema.validators import extend  # type: ignore[import-untyped]  # noqa: PLC0415
    from referencing import Registry  # noqa: PLC0415

    def pattern(_: Any, wanted: str, instance: Any, __: Any) -> Iterator[Any]:
        if not isinstance(instance, str):
            return
        _spend(steps_of(wanted, instance) // _PATTERN_STEPS_A_STEP)
        if not found_in(wanted, instance):
            yield ValidationError(f"does not match {wanted!r}")

    def unique_items(_: Any, wanted: Any, instance: Any, __: Any) -> Iterator[Any]:
        if wanted is True and isinstance(instance, list) and _repeats(instance):
            yield ValidationError("has non-unique elements")

    own = {**Draft202012Validator.VALIDATORS, "pattern": pattern, "uniqueItems": unique_items}
    bounded = extend(Draft202012Validator, {name: _counted(name, keyword) for name, keyword in own.items()})
    nowhere: Registry[Any] = Registry()
    return lambda schema: bounded(schema, registry=nowhere)


def _repeats(values: list[Any]) -> bool:
    """By what they are written as: jsonschema would compare every element with every other one."""
    written = [orjson.dumps(each, option=orjson.OPT_SORT_KEYS) for each in values]
    _spend(sum(map(len, written)) // _WRITTEN_A_STEP)
    return len(set(written)) < len(written)


def _counted(name: str, keyword: Callable[..., Any]) -> Callable[..., Any]:
    of_wanted = _whole if name in _COMPARES_WHOLE else _size

    def looking(validator: Any, wanted: Any, instance: Any, schema: Any) -> Any:
        _spend(1 + of_wanted(wanted) + _size(instance))
        return keyword(validator, wanted, instance, schema)

    return looking


def _spend(steps: int) -> None:
    go_on()
    spent = _spent.get()
    spent[0] += steps
    if spent[0] > _STEPS_MOST:
        raise _TooManySteps


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value) // _CHARACTERS_A_STEP
    return len(value) // _ELEMENTS_A_STEP if isinstance(value, list | dict) else 0


def _whole(value: Any) -> int:
    return size_of(value) // _ELEMENTS_A_STEP


def _wrong(param: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"{param}: {why}", param=param)
