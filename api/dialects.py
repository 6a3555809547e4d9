"""How does an answer look at each of the doors where somebody holds the line?

A job knows one form, a chat completion and its chunks.  A dialect makes of it what a door's callers know: data, no behaviour of its
own, so that hanging up, keeping alive and ending are the same at all of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from api.errors import native_envelope
from models.errors import TramError
from models.wire.errors import envelope
from models.wire.native import NativeChunks, result_of, succeeded
from models.wire.texts import TextChunks, text_completion

Chunks = Callable[[bytes], list[bytes]]
"""Makes of each of a job's chunks, in order, what is sent for it."""


@dataclass(frozen=True, slots=True)
class Dialect:
    whole: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict
    chunks: Callable[[], Chunks | None] = lambda: None
    """For one stream; None: they are sent as they are."""
    error: Callable[[TramError], dict[str, Any]] = envelope
    numbered: bool = True
    """Whether an event has an id, from which one can come back to it."""


CHAT = Dialect()
TEXT = Dialect(whole=text_completion, chunks=TextChunks)


def native(*, as_json: bool) -> Dialect:
    """Cloudflare's; `as_json`: the answer is a document, not a text."""
    return Dialect(
        whole=lambda completion: succeeded(result_of(completion, as_json=as_json)),
        chunks=NativeChunks,
        error=native_envelope,
        numbered=False,
    )
