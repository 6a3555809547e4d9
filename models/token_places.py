"""At which token do two answers part?  From what the generation has kept of its tokens: log probabilities, or the stream's counts.

Token ids are not kept: SGLang's chat stream tells none.  A chunk of its stream is a token (now and then several, where a character
takes more than one), and says how many there were so far; so the first chunk that differs names the token.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Place:
    token: int
    """Counted from 0: so many tokens are the same."""
    told_by: str
    """`logprobs`: token by token; `stream`: by the engine's counts; `chunks`: by the number of chunks, as the engine did not count."""


@dataclass(frozen=True, slots=True)
class _Piece:
    text: str
    before: int
    """Tokens that came before it."""


def parting(before: Mapping[str, Any], after: Mapping[str, Any], choice: int) -> Place | None:
    """Of two results as jobs keep them; None where they do not part, or nothing was kept."""
    for told_by, pieces in (("logprobs", _by_logprobs), ("stream", _by_counts), ("chunks", _by_chunks)):
        old, new = pieces(before, choice), pieces(after, choice)
        if old and new:
            return _first(old, new, told_by)
    return None


def _first(old: list[_Piece], new: list[_Piece], told_by: str) -> Place | None:
    for one, other in zip_longest(old, new):
        if one is None or other is None or one.text != other.text:
            return Place(min(piece.before for piece in (one, other) if piece is not None), told_by)
    return None


def _by_logprobs(result: Mapping[str, Any], choice: int) -> list[_Piece]:
    choices = result["completion"]["choices"]
    told = choices[choice]["logprobs"] if choice < len(choices) else None
    return [_Piece(token["token"], place) for place, token in enumerate((told or {}).get("content") or ())]


def _by_counts(result: Mapping[str, Any], choice: int) -> list[_Piece]:
    """Only of an answer of one choice that one attempt has made, and an engine that counts as it goes."""
    counts: list[int] = result.get("tokens") or []
    if not counts or choice or any(now < last for last, now in pairwise(counts)) or not counts[-1]:
        return []
    chunks = _said(result, 0)
    if len(chunks) != len(counts) or any(text and not count for text, count in zip(chunks, counts, strict=True)):
        return []
    return list(_counted(chunks, counts))


def _counted(chunks: Sequence[str], counts: Sequence[int]) -> Iterator[_Piece]:
    said = 0
    for text, count in zip(chunks, counts, strict=True):
        if text:
            yield _Piece(text, said)
            said = count


def _by_chunks(result: Mapping[str, Any], choice: int) -> list[_Piece]:
    return [_Piece(text, place) for place, text in enumerate(text for text in _said(result, choice) if text)]


def _said(result: Mapping[str, Any], choice: int) -> list[str]:
    """What each chunk says, since the answer last began anew; empty where a chunk only says who speaks, or that it is over."""
    chunks = [orjson.loads(text) for text in result.get("chunks") or ()]
    void = max((place for place, chunk in enumerate(chunks) if chunk is None), default=-1)
    return ["".join(_words(one["delta"]) for one in chunk if one["index"] == choice) for chunk in chunks[void + 1 :]]


def _words(delta: Mapping[str, Any]) -> str:
    calls = [call.get("function") for call in delta.get("tool_calls") or ()]
    called = [part for part in (*calls, delta.get("function_call")) if part]
    return (delta.get("content") or "") + (orjson.dumps(called).decode() if called else "")
