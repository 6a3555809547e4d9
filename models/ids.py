"""How are things named?  `<kind>_<26 characters>`: 48 bits of milliseconds, 80 random bits, Crockford's base 32.

Ids made later sort later, so the primary key is also the keyset of every list.  All are of one length, which the engine's
abort needs: SGLang matches request ids by prefix.  A job and the completion it makes share the 26 characters.  The ids of a series
follow one another, so that one name, a UUID, stands for all of them.
"""

import os
import time
from uuid import UUID

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_COMPLETION, _TEXT = "chatcmpl-", "cmpl-"
SUFFIX_LENGTH = 26
SERIES_MOST = 1000
_PLACES = 1024
"""What of a series' numbers tells its members apart; in its name, how many they are."""


def suffix(now_ms: int | None = None) -> str:
    """26 sortable characters; `now_ms` is Unix time in milliseconds."""
    milliseconds = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    return _written((milliseconds << 80) | int.from_bytes(os.urandom(10)))


def new(kind: str, now_ms: int | None = None) -> str:
    return f"{kind}_{suffix(now_ms)}"


def earliest(kind: str, at_ms: int) -> str:
    """Before all that are made at that time, behind all that were made earlier."""
    return f"{kind}_{_written(at_ms << 80)}"


def derived(kind: str, at_ms: int, digest: bytes) -> str:
    """The same for the same 10 bytes."""
    return f"{kind}_{_written((at_ms << 80) | int.from_bytes(digest[:10]))}"


def is_id(kind: str, text: str) -> bool:
    written = text.removeprefix(f"{kind}_")
    return written != text and len(written) == SUFFIX_LENGTH and set(written) <= set(_ALPHABET)


def completion_of(job_id: str) -> str:
    return _COMPLETION + job_id.removeprefix("job_")


def job_of(name: str) -> str:
    """The job id behind a job id or the id of a completion, be it a chat's or a text's."""
    found = next((prefix for prefix in (_COMPLETION, _TEXT) if name.startswith(prefix)), None)
    return name if found is None else "job_" + name.removeprefix(found)


def series(kind: str, count: int) -> list[str]:
    """As many new ids as that, which `series_name` makes one."""
    assert 0 < count <= SERIES_MOST, "a name has no room for more"
    first = _read(suffix()) // _PLACES * _PLACES
    return _series(kind, first, count)


def series_name(first: str, count: int) -> str:
    return str(UUID(int=_read(first[-SUFFIX_LENGTH:]) + count))


def series_named(kind: str, name: str) -> list[str]:
    """The ids that a name stands for; none for what is no name."""
    try:
        number = UUID(name).int
    except ValueError:
        return []
    return _series(kind, number // _PLACES * _PLACES, number % _PLACES)


def _series(kind: str, first: int, count: int) -> list[str]:
    return [f"{kind}_{_written(first + place)}" for place in range(count)]


def _written(number: int) -> str:
    return "".join([_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5)])


def _read(text: str) -> int:
    number = 0
    for character in text:
        number = number << 5 | _ALPHABET.index(character)
    return number
