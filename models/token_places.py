"""At which token do two answers part?  From what the generation has kept of its tokens: log probabilities, or the stream's counts.

Token ids are not kept: SGLang's chat stream tells none.  A chunk of its stream is a token, or several (where a character takes more than
one, and where the engine is too busy to send each), and says how many there were so far.  Two streams of one text may be cut in
different places, so chunks of several tokens are compared by their characters, and then the token told is the last that is certain.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import orjson

from models.comparison import common_length


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
    tokens: int = 1
    """In it; 0: nobody knows."""


def parting(before: Mapping[str, Any], after: Mapping[str, Any], choice: int) -> Place | None:
    """Of two results as jobs keep them; None where they do not part, or nothing was kept."""
    for told_by, pieces in (("logprobs", _by_logprobs), ("stream", _by_counts), ("chunks", _by_chunks)):
        old, new = pieces(before, choice), pieces(after, choice)
        if old and new:
            token = _first(old, new)
            return None if token is None else Place(token, told_by)
    return None


def _first(old: Sequence[_Piece], new: Sequence[_Piece]) -> int | None:
    """So many tokens are the same for certain; None: all."""
    here = there = 0
    while here < len(old) and there < len(new):
        one, other = old[here], new[there]
        ends = (1, 1) if one.text == other.text else _aligned(old[here:], new[there:])
        if ends is None:
            return _certain(old[here:], new[there:])
        here, there = here + ends[0], there + ends[1]
    left = [*old[here:], *new[there:]]
    return left[0].before if left else None


def _aligned(old: Sequence[_Piece], new: Sequence[_Piece]) -> tuple[int, int] | None:
    """How many pieces on each side say the same again, where the first ones are cut differently; None: they part."""
    if old[0].tokens == new[0].tokens == 1:
        return None
    ends = [1, 1]
    texts = [old[0].text, new[0].text]
    while texts[0] != texts[1]:
        short = 0 if len(texts[0]) < len(texts[1]) else 1
        side = (old, new)[short]
        if not texts[1 - short].startswith(texts[short]) or ends[short] == len(side):
            return None
        texts[short] += side[ends[short]].text
        ends[short] += 1
    return ends[0], ends[1]


def _certain(old: Sequence[_Piece], new: Sequence[_Piece]) -> int:
    same = common_length(*("".join(piece.text for piece in side) for side in (old, new)))
    if old[0].tokens == new[0].tokens == 1:
        return min(old[0].before, new[0].before)
    return min(_said_by(side, same) for side in (old, new))


def _said_by(pieces: Sequence[_Piece], characters: int) -> int:
    """Tokens that came before the piece in which this character stands."""
    end = 0
    for piece in pieces:
        end += len(piece.text)
        if end > characters:
            return piece.before
    return pieces[-1].before + pieces[-1].tokens


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
            yield _Piece(text, said, count - said)
            said = count


def _by_chunks(result: Mapping[str, Any], choice: int) -> list[_Piece]:
    return [_Piece(text, place, 0) for place, text in enumerate(text for text in _said(result, choice) if text)]


def _said(result: Mapping[str, Any], choice: int) -> list[str]:
    """What each chunk says, since the answer last began anew; empty where a chunk only says who speaks, or that it is over."""
    chunks = [orjson.loads(text) for text in result.get("chunks") or ()]
    void = max((place for place, chunk in enumerate(chunks) if chunk is None), default=-1)
    return ["".join(_words(one["delta"]) for one in chunk if one["index"] == choice) for chunk in chunks[void + 1 :]]


def _words(delta: Mapping[str, Any]) -> str:
    calls = [call.get("function") for call in delta.get("tool_calls") or ()]
    called = [part for part in (*calls, delta.get("function_call")) if part]
    return (delta.get("content") or "") + (orjson.dumps(called).decode() if called else "")
