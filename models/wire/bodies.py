"""Is this text a JSON object that every part of the service can hold?  What JSON allows and somebody behind us cannot take is refused here.

Postgres' texts hold no NUL, encoders give up on deep nests, and orjson reads integers beyond 64 bits as the nearest float.
"""

from typing import Any

import orjson

from models.errors import InvalidRequest
from models.wire.problems import half_in, nul_in, rounded_in

DEPTH_MOST = 100
"""How deep a body may nest; no schema needs more, and encoders of JSON give up at 250."""


def parsed(raw: bytes) -> dict[str, Any]:
    """Raises InvalidRequest."""
    body = read(raw)
    check(raw, body)
    return body


def read(raw: bytes) -> dict[str, Any]:
    """The object, still to be checked.  Raises InvalidRequest for what is none."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        if b"\\u" in raw and (where := half_in(raw)):
            raise InvalidRequest(f"{where}: half a surrogate pair is no character", param=where) from None
        raise InvalidRequest(f"the body is not valid JSON: {error}", param="body", code="invalid_json") from None
    if not isinstance(body, dict):
        raise InvalidRequest("the body has to be a JSON object", param="body", code="invalid_json")
    return body


def check(raw: bytes, body: dict[str, Any]) -> None:
    """Raises InvalidRequest; `body` is what `raw`, or a part of it, says."""
    if too_deep(raw, body):
        raise InvalidRequest(
            f"the body is nested more than {DEPTH_MOST} levels deep", param="body", code="invalid_json"
        )
    if b"\\u0000" in raw and (where := nul_in(body)):
        raise InvalidRequest(f"{where}: NUL characters are not accepted", param=where)
    if where := rounded_in(raw, body):
        raise InvalidRequest(f"{where}: integers have at most 64 bits", param=where)


def too_deep(raw: bytes, body: dict[str, Any]) -> bool:
    """Whether an encoder might give up on it; `body` is what `raw`, or a part of it, says."""
    return raw.count(b"{") + raw.count(b"[") > DEPTH_MOST and _deeper_than(body, DEPTH_MOST)


def _deeper_than(value: Any, most: int) -> bool:
    """Level by level, since recursion is what such a body is made to exhaust."""
    level = [value]
    for _ in range(most):
        level = [
            item
            for holder in level
            for item in (holder.values() if isinstance(holder, dict) else holder)
            if isinstance(item, dict | list)
        ]
        if not level:
            return False
    return True
