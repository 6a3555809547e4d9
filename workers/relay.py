"""How does an attempt's answer leave the worker?  Numbered chunks into the job's token stream, and a copy kept for the result.

On the path of every token: one dump of the choices, two lists, one buffer.  Numbers run through all attempts that continue one
another, so a follower's place in the stream outlives a worker.
"""

from collections.abc import Sequence
from typing import Any

import orjson

from infra.clock import now_ms
from infra.token_stream import NOTHING, Counts, Entry, TokenWriter
from models.handover import Claimed
from models.wire.chat import tier_of
from models.wire.ending import StreamEnd
from models.wire.functions import as_function_chunk, as_tool_chunk, asked_for
from models.wire.stream import RESTART, Frame


class Relay:
    def __init__(self, writer: TokenWriter, job: Claimed, fingerprint: str) -> None:
        options = job.parameters.get("stream_options") or {}
        self._include_usage = bool(options.get("include_usage"))
        self._frame = Frame(
            job_id=job.id,
            model=job.model,
            created_s=job.created_ms // 1000,
            include_usage=self._include_usage,
            tier=tier_of(job.parameters),
            fingerprint=fingerprint,
        )
        self._functions = asked_for(job.parameters)
        self._writer, self._job = writer, job
        self.sequence = 0
        self.chunks: list[bytes] = []
        """The choices of every chunk sent, as JSON: what a later follower is told again."""
        self.times_ms: list[int] = []
        self.tokens: list[int] = []
        """What the engine had counted at each chunk; all 0 where it does not count as it goes."""

    def send(self, choices: list[dict[str, Any]], counts: Counts) -> None:
        text = orjson.dumps(as_function_chunk(choices) if self._functions else choices)
        self.chunks.append(text)
        self.times_ms.append(now_ms())
        self.tokens.append(counts.completion)
        self._append(self._frame.chunk(text), counts)

    def send_usage(self, usage: dict[str, Any], counts: Counts) -> None:
        if self._include_usage:
            self._append(self._frame.usage(usage), counts)

    async def end(self, ending: StreamEnd) -> None:
        await self._writer.end(self._job.id, self._job.attempt, self.sequence + 1, ending.dump())

    def carry_on(self, entries: Sequence[Entry]) -> list[dict[str, Any]]:
        """Goes on behind what earlier attempts have sent; each of their chunks."""
        sent: list[dict[str, Any]] = [orjson.loads(chunk) for entry in entries for chunk in entry.chunks]
        self.sequence += len(sent)
        told = [chunk.get("choices") for chunk in sent if not chunk.get("usage")]
        self.chunks += [orjson.dumps(choices) for choices in told]
        self.times_ms += [now_ms()] * len(told)
        self.tokens += [0] * len(told)  # an entry of the stream holds one count for all its chunks
        if self._functions:
            sent = [
                chunk | {"choices": as_tool_chunk(chunk["choices"])} if "choices" in chunk else chunk for chunk in sent
            ]
        return sent

    def restart(self) -> None:
        """Tells followers that what came before is void."""
        self.chunks.append(b"null")
        self.times_ms.append(now_ms())
        self.tokens.append(0)
        self._append(RESTART, NOTHING)

    def _append(self, chunk: bytes, counts: Counts) -> None:
        self.sequence += 1
        self._writer.append(self._job.id, self._job.attempt, self.sequence, chunk, counts)
