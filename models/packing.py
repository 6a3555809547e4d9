"""How does a JSON document become bytes in a row or an object?

orjson keeps key order, integers and every character (NUL too, which Postgres' own JSON refuses).  Long ones are deflated:
chat text shrinks to a third, and level 1 costs about 10 us a KiB.
"""

import zlib
from typing import Any

import orjson

_PLAIN, _DEFLATED = b"j", b"z"
_DEFLATE_FROM_BYTES = 1024  # below this the header eats the gain


def pack(document: Any, *, plain: bool = False) -> bytes:
    """`plain`: as it is, however long; for what lives seconds."""
    text = orjson.dumps(document)
    if plain or len(text) < _DEFLATE_FROM_BYTES:
        return _PLAIN + text
    return _DEFLATED + zlib.compress(text, 1)


def unpack(stored: bytes) -> Any:
    """Raises ValueError for bytes that `pack` did not make."""
    mark, body = stored[:1], stored[1:]
    if mark == _PLAIN:
        return orjson.loads(body)
    if mark != _DEFLATED:
        raise ValueError(f"not a packed document: it begins with {mark!r}")
    try:
        text = zlib.decompress(body)
    except zlib.error as error:
        raise ValueError(f"not a packed document: {error}") from error
    return orjson.loads(text)
