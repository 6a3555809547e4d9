"""How are things named?  `<kind>_<26 characters>`: 48 bits of milliseconds, 80 random bits, Crockford's base 32.

Ids made later sort later, so the primary key is also the keyset of every list.  All are of one length, which the engine's
abort needs: SGLang matches request ids by prefix.  A job and the completion it makes share the 26 characters.
"""

import os
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_COMPLETION = "chatcmpl-"
SUFFIX_LENGTH = 26


def suffix(now_ms: int | None = None) -> str:
    """26 sortable characters; `now_ms` is Unix time in milliseconds."""
    milliseconds = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    number = (milliseconds << 80) | int.from_bytes(os.urandom(10))
    return "".join([_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5)])


def new(kind: str) -> str:
    return f"{kind}_{suffix()}"


def completion_of(job_id: str) -> str:
    return _COMPLETION + job_id.removeprefix("job_")


def job_of(name: str) -> str:
    """The job id behind a job id or a completion id."""
    return "job_" + name.removeprefix(_COMPLETION) if name.startswith(_COMPLETION) else name
