"""Can an answer that an earlier attempt began be gone on with, and from which tokens?

SGLang takes a prompt as token ids: those of the messages and behind them those already said.  It streams text, not ids, but counts
as it goes; each chunk made ids again gives back the ids that were said, and where the count says otherwise (or the text does) that
is known, and counts as no.  An answer under a grammar cannot be gone on with: the engine would begin the grammar anew.  Neither can
one of several choices, one about images, which are no ids, one that has begun to call a tool, or one that repeats its prompt.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.engine.client import EngineClient
from infra.token_stream import Counts
from models.handover import Claimed

log = logging.getLogger(__name__)

Chunk = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Begun:
    """What earlier attempts have said, since the answer last began anew."""

    chunks: Sequence[Chunk]
    counts: Counts

    @classmethod
    def of(cls, chunks: Sequence[Chunk], counts: Counts) -> "Begun":
        restarts = [number for number, chunk in enumerate(chunks) if "choices" not in chunk]
        return cls(chunks[restarts[-1] + 1 :] if restarts else chunks, counts)

    def deltas(self) -> list[Mapping[str, Any]]:
        return [choice["delta"] for chunk in self.chunks for choice in chunk["choices"]]

    def is_silent(self) -> bool:
        """Nothing but who speaks, at most: whatever follows fits."""
        return not any(delta.get("content") or delta.get("tool_calls") for delta in self.deltas())

    def introduced(self) -> frozenset[int]:
        """Choices of which it was said who speaks."""
        return frozenset(
            choice["index"] for chunk in self.chunks for choice in chunk["choices"] if "role" in choice["delta"]
        )

    def is_whole(self, wanted: Mapping[str, Any]) -> bool:
        """All that was asked for is said, though perhaps not that it has ended."""
        limit = wanted.get("max_completion_tokens")
        choices = wanted.get("n") or 1
        return self._finished() == choices or (choices == 1 and limit is not None and self.counts.completion >= limit)

    def _finished(self) -> int:
        return len({choice["index"] for chunk in self.chunks for choice in chunk["choices"] if choice["finish_reason"]})


async def input_ids(engine: EngineClient, job: Claimed, wanted: Mapping[str, Any], begun: Begun) -> list[int] | None:
    """The prompt to go on from; None where there is none that is certain.  Raises EngineLost and its kin."""
    if not _is_plain(wanted, job.messages) or any(delta.get("tool_calls") for delta in begun.deltas()):
        return None
    if not await engine.is_sglang():
        return None
    pieces = [delta["content"] for delta in begun.deltas() if delta.get("content")]
    found = await engine.ids_of(wanted, job.messages, pieces)
    if found is None or len(found.answer) != begun.counts.completion:
        log.info("%s cannot be continued: the tokens said are not certain", job.id)
        return None
    return [*found.prompt, *found.answer]


def _is_plain(wanted: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]) -> bool:
    form = (wanted.get("response_format") or {}).get("type", "text")
    under_grammar = form != "text" or "regex" in wanted
    free = wanted.get("tool_choice") in (None, "none", "auto")  # a tuple: a named tool is a dict, which no set takes
    free = free and not wanted.get("echo")
    return free and not under_grammar and wanted.get("n") in {None, 1} and not _has_images(messages)


def _has_images(messages: Sequence[Mapping[str, Any]]) -> bool:
    parts = (part for message in messages if isinstance(message.get("content"), list) for part in message["content"])
    return any(part["type"] != "text" for part in parts)
