"""What is the name of a conversation's path?  A chain hash: one keyed digest a message, each over the one before it.

The hash of a request's last message names its whole prefix: the transcript tree, the placement of jobs and the engine's own
cache all turn on it.  Keyed by the account's salt, so equal text of two accounts has unequal names.  blake2b, 16 bytes: a
collision within an account is out of reach, and 1 KiB costs about a microsecond.

Canonical form: what the model is shown, and nothing else.  A text written as one string or as text parts is the same message;
absent, null and empty optional fields are the same.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

DIGEST_BYTES = 16


def chain(salt: bytes, messages: Sequence[Mapping[str, Any]], parent: str = "") -> list[str]:
    """The hash of each message in turn, hex; `parent` is the hash of what comes before the first."""
    hashes = []
    for message in messages:
        parent = link(salt, parent, message)
        hashes.append(parent)
    return hashes


def link(salt: bytes, parent: str, message: Mapping[str, Any]) -> str:
    digest = hashlib.blake2b(parent.encode(), key=salt, digest_size=DIGEST_BYTES)
    digest.update(canonical(message))
    return digest.hexdigest()


def cache_salt(salt: bytes) -> str:
    """What the engine keys its cache with: tells accounts apart, and tells nothing about the salt itself."""
    return hashlib.blake2b(b"cache", key=salt, digest_size=DIGEST_BYTES).hexdigest()


def canonical(message: Mapping[str, Any]) -> bytes:
    kept = {key: message[key] for key in ("role", "name", "tool_call_id") if message.get(key)}
    if calls := message.get("tool_calls"):
        kept["tool_calls"] = [
            [call.get("id"), call["function"]["name"], call["function"].get("arguments") or ""] for call in calls
        ]
    if content := text_of(message.get("content")):
        kept["content"] = content if isinstance(content, str) else [_part(part) for part in content]
    return orjson.dumps(kept, option=orjson.OPT_SORT_KEYS)


def _part(part: Mapping[str, Any]) -> Any:
    """Of a message with images: a text by itself, an image with how closely it is looked at."""
    if part.get("type") != "image_url":
        return part.get("text")
    image = part["image_url"]
    return [image["url"], image.get("detail") or "auto"]


def text_of(content: Any) -> Any:
    """Text parts joined to one string; anything else as it is."""
    if isinstance(content, list) and all(part.get("type") == "text" for part in content):
        return "".join(part["text"] for part in content)
    return content
