"""What is wrong with a request, and where?  One sentence and one place for whatever pydantic found.

The place is a path into the caller's own body (`messages[0].content[1].text`).  Relies on pydantic's locations; of what was sent it
repeats no more than a key, and that in part.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from models.errors import InvalidRequest

_Model = TypeVar("_Model", bound=BaseModel)
PARAM_CHARACTERS = 200
"""How much of a caller's own key an error repeats."""
_ERRORS_MOST = 1_000
"""Looked at, of what is wrong with a body; the door has others to serve."""
_NAMED = re.compile(r"(\S+): (.*)", re.DOTALL)  # a rule of ours over several fields says itself whose fault it is
_HALVES = re.compile("[\ud800-\udfff]")
_TAGS = frozenset(
    {"system", "developer", "user", "assistant", "tool"}
    | {"text", "image_url", "json_object", "json_schema"}
    | {"custom", "logs", "stored_completions", "jsonl", "completions", "responses"}
    | {"file_content", "file_id", "template", "item_reference"}
)


def validated(kind: type[_Model], body: Mapping[str, Any]) -> _Model:
    """The body as a `kind`.  Raises InvalidRequest that says what is wrong with it, and where."""
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise explain(error, body) from None


def explain(error: ValidationError, body: Any) -> InvalidRequest:
    """The most telling of pydantic's errors: the one that got deepest into the body."""
    each_error = error.errors(include_url=False, include_input=False)[:_ERRORS_MOST]
    found = [(_param(each, body), each) for each in each_error]
    # Of a union's errors at one place, "at least 1 item" says more than "not a string".
    param, worst = max(found, key=lambda pair: (len(pair[0]), not pair[1]["type"].endswith("_type")))
    param = param[:PARAM_CHARACTERS]
    message = worst["msg"].removeprefix("Value error, ")
    if worst["type"] == "value_error" and (named := _NAMED.match(message)):
        param, message = named[1][:PARAM_CHARACTERS], named[2]
    if worst["type"] == "extra_forbidden":
        shown = param or '""'
        return InvalidRequest(f"unsupported parameter: {shown}", param=param or "body", code="unsupported_parameter")
    return InvalidRequest(f"{param or 'body'}: {message}", param=param or None)


def _param(found: Any, body: Any) -> str:
    """`messages[0].content[1].text` from pydantic's location, whose union tags are not steps into the body."""
    path, here, tagged = "", body, False
    for place, step in enumerate(found["loc"], 1):
        if isinstance(step, int):
            path += f"[{step}]"
            here = here[step] if isinstance(here, list) and step < len(here) else None
            tagged = False
        elif _is_tag(step, here) and not tagged and place < len(found["loc"]):
            tagged = True  # the same word may follow as a field: a text part has `text`
        elif isinstance(here, dict) and step in here:
            path += f".{step}" if path else step
            here = here[step]
            tagged = False
    last = _absent(found)
    return f"{path}.{last}" if path and last else path or last


def _is_tag(step: str, here: Any) -> bool:
    """`function` is a role, and a tool's field."""
    return step in _TAGS or (step == "function" and isinstance(here, dict) and here.get("role") == step)


def _absent(found: Any) -> str:
    """The field the error is about, where it is not in the body, or decides what else is."""
    if found["type"] == "missing":
        return str(found["loc"][-1])
    if found["type"] in {"union_tag_invalid", "union_tag_not_found"}:
        return str(found["ctx"]["discriminator"]).strip("'")
    return ""


def nul_in(value: Any) -> str | None:
    """Where a NUL character stands; Postgres' texts cannot hold one, and no model was trained on any."""
    return _first(value, lambda each: isinstance(each, str) and "\0" in each)


def half_in(raw: bytes) -> str | None:
    """Where half a surrogate pair stands, escaped, in JSON that is sound but for that; it is no character, and has no UTF-8."""
    try:
        return _first(json.loads(raw), lambda each: isinstance(each, str) and bool(_HALVES.search(each)))
    except (ValueError, RecursionError):
        return None


def rounded_in(raw: bytes, body: Any) -> str | None:
    """Where an integer of more than 64 bits stands, which orjson has read as the nearest float: a schema must not change."""
    if not _has_great_float(body):
        return None
    return _first(json.loads(raw), lambda each: type(each) is int and not -(2**63) <= each < 2**64)


def _has_great_float(body: Any) -> bool:
    """Every request passes here, so this is a loop and no more."""
    holders = [body]
    for holder in holders:
        for item in holder.values() if isinstance(holder, dict) else holder:
            if isinstance(item, dict | list):
                holders.append(item)
            elif isinstance(item, float) and abs(item) >= 2**63:
                return True
    return False


def _first(value: Any, wrong: Callable[[Any], bool], path: str = "") -> str | None:
    """The path to what is wrong; to the object, where a key is."""
    path = path[:PARAM_CHARACTERS]  # or a long key would be copied for all that is below it
    if wrong(value):
        return path or "body"
    if isinstance(value, list):
        return next((found for i, item in enumerate(value) if (found := _first(item, wrong, f"{path}[{i}]"))), None)
    if isinstance(value, dict):
        inside = ((path or "body") if wrong(key) else None for key in value)
        below = (_first(item, wrong, f"{path}.{key}" if path else key) for key, item in value.items())
        return next((found for pair in zip(inside, below, strict=True) for found in pair if found), None)
    return None
