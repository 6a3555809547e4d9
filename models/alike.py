"""Which requests begin alike?  A key that sorts them so that those with a common beginning follow one another.

An engine that has just computed a beginning still holds it.  The key is a chain: each link is a hash of the prompt up to the end of a
block, so two keys agree for as many links as the prompts agree in blocks, and a key is small whatever the prompt's length.  Blocks
are even at first, where system prompts end, and then grow.
"""

import hashlib
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import orjson

LINK_BYTES = 4
"""Two of 50,000 beginnings that differ share a link once in several runs; then two rows stand together that need not."""
_ENDS = (0, *range(256, 4097, 256), *(4096 << step for step in range(1, 9)))
"""Where blocks end, in bytes: 24 of them, up to a mebibyte."""
KEY_MOST_BYTES = LINK_BYTES * len(_ENDS)
_BEFORE = ("model", "tools", "functions", "response_format", "guided_json")
"""What a template writes before the messages, or decides where they go."""


def key(body: Mapping[str, Any]) -> bytes:
    """Of a chat's body or a completion's."""
    prompt = orjson.dumps([body.get("messages"), body.get("prompt")])
    chain = hashlib.blake2b(orjson.dumps([body.get(name) for name in _BEFORE]), digest_size=LINK_BYTES)
    links = [chain.digest()]
    for start, end in pairwise(_ENDS):
        if len(prompt) < end:
            break
        chain.update(prompt[start:end])
        links.append(chain.digest())
    return b"".join(links)
