"""How do the tokens of all jobs of a worker get into their streams?

`append` only buffers; one task sends what has gathered for all jobs as one command: at once when nothing was sent during the last
`interval_s` or when a job says its first words (they wait for nobody), else at the next tick, and never while a command is under way.

A job must not fail because the relay is down: chunks are kept (`TAIL_BYTES` a job) and tried again.  After a fault the kept tail is
sent whole, because what a broken connection acknowledged may be gone (a restart without data, or the last second of the log).
Streams are not trimmed while a job runs: a client may join at the first token; their length is bounded by the job's own token limit.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn

from redis.asyncio import Redis

from infra.redis import FAULTS, Wire
from infra.token_stream.entry import APPEND, KEEP_S, NOTHING, RUNNING_S, Counts, Fenced, attempt_of, key_of

log = logging.getLogger(__name__)

TAIL_BYTES = 256 * 1024
"""Some 1,400 chunks of 180 bytes: most answers whole, 64 MiB at 256 jobs.  What is cut off is lost only if Redis loses it too."""
PATIENCE_S = 1.0
"""How long `end` and `close` wait for Redis before they leave the rest to the background, or to the row."""
LINGER_S = 60.0
"""How long an end that Redis does not take is tried again: a restart takes seconds, and no new jobs come meanwhile."""
FIRST_WORDS = 2
"""Chunks: the one that says who speaks, and the first token."""
_TIMEOUT_S = 5.0
_BACKOFF_S = (0.05, 1.0)


@dataclass(slots=True)
class _Job:
    id: str
    key: bytes
    attempt: int
    last: int = 0
    """Number of the last chunk handed in, or of the end."""
    tail: list[bytes] = field(default_factory=list)
    tail_bytes: int = 0
    sent: int = 0
    """How many of `tail` Redis has acknowledged."""
    counts: Counts = NOTHING
    dirty: bool = False
    fenced: bool = False
    expire_due: float = 0.0
    final: bytes = b""
    given_up_at: float = 0.0
    written: "asyncio.Future[None] | None" = None

    def shorten(self, most: int) -> None:
        """Forgets some of the first `most` chunks when the tail is too long."""
        while most and self.tail_bytes > TAIL_BYTES:
            # By halves, so that a long answer is not moved for every chunk.
            cut = min(most, max(1, len(self.tail) // 2))
            del self.tail[:cut]
            most -= cut
            self.sent = max(0, self.sent - cut)
            self.tail_bytes = sum(map(len, self.tail))

    def settle(self) -> None:
        if self.written is not None and not self.written.done():
            self.written.set_result(None)


class TokenWriter:
    def __init__(self, redis: Redis, *, interval_s: float = 0.005) -> None:
        self._wire = Wire(redis)
        self._interval_s = interval_s
        self._jobs: dict[str, _Job] = {}
        self._dirty: list[_Job] = []
        self._wake, self._urgent = asyncio.Event(), asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self._task = asyncio.create_task(self._run(), name="token-writer")

    async def close(self) -> None:
        """Sends what is left, if Redis takes it soon."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=PATIENCE_S)
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._wire.close()

    def append(self, job_id: str, attempt: int, sequence: int, chunk: bytes, counts: Counts = NOTHING) -> None:
        """`chunk` holds no raw newline; `sequence` is one above the last, `counts` include it.  Raises Fenced."""
        job = self._job(job_id, attempt)
        job.counts = counts
        job.tail.append(chunk)
        job.tail_bytes += len(chunk)
        job.last = sequence
        self._mark(job)
        if sequence <= FIRST_WORDS:
            self._urgent.set()

    async def end(self, job_id: str, attempt: int, sequence: int, final: bytes) -> None:
        """`sequence` is one above the last chunk's: the end is an event too.  `final` is not empty.  Raises Fenced.

        Who ends a job for its worker, and knows no numbers, ends it as the next attempt's 1: behind everything.  Returns once Redis
        has it, or after PATIENCE_S, when the background goes on trying.
        """
        job = self._job(job_id, attempt)
        loop = asyncio.get_running_loop()
        job.last, job.final = sequence, final
        job.given_up_at, job.written = loop.time() + LINGER_S, loop.create_future()
        self._mark(job)
        await asyncio.wait([job.written], timeout=PATIENCE_S)
        if job.fenced:
            self._refuse(job, attempt)

    def forget(self, job_id: str) -> None:
        """For a job that this worker lets go of without an end.  What it has not sent nobody has seen."""
        self._jobs.pop(job_id, None)

    def _job(self, job_id: str, attempt: int) -> _Job:
        job = self._jobs.get(job_id)
        if job is None or job.attempt < attempt:
            job = self._jobs[job_id] = _Job(job_id, key_of(job_id), attempt)
        if job.fenced or job.attempt > attempt:
            self._refuse(job, attempt)
        return job

    def _refuse(self, job: _Job, attempt: int) -> NoReturn:
        if job.attempt == attempt:
            self._drop(job)
        raise Fenced("a later attempt of this job has written")

    def _drop(self, job: _Job) -> None:
        if self._jobs.get(job.id) is job:
            del self._jobs[job.id]

    def _mark(self, job: _Job) -> None:
        if not job.dirty:
            job.dirty = True
            self._dirty.append(job)
        self._wake.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        backoff_s = _BACKOFF_S[0]
        while self._dirty or not self._closing:
            await self._wake.wait()
            self._wake.clear()
            self._urgent.clear()
            started = loop.time()
            batch = self._take()
            try:
                await self._send(batch, started)
            except FAULTS as fault:
                self._keep(batch, fault, started)
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, _BACKOFF_S[1])
            else:
                backoff_s = _BACKOFF_S[0]
                await self._pause(started + self._interval_s)

    async def _pause(self, until: float) -> None:
        """Until then, or until something urgent is said."""
        if not self._urgent.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await self._urgent.wait()

    def _take(self) -> list[_Job]:
        batch, self._dirty = self._dirty, []
        for job in batch:
            job.dirty = False
        return batch

    async def _send(self, batch: Sequence[_Job], now: float) -> None:
        if not batch:
            return
        lengths = [len(job.tail) for job in batch]
        keys = [job.key for job in batch]
        arguments = [part for job in batch for part in _entry(job, now)]
        tops = await self._wire.call((b"EVAL", APPEND, len(batch), *keys, *arguments), timeout_s=_TIMEOUT_S)
        for job, length, top in zip(batch, lengths, tops, strict=True):
            job.sent = length
            # Refused by our own earlier words: they had arrived, only the answer had not.
            job.fenced = top != b"" and attempt_of(top) > job.attempt
            self._sent(job, now)

    def _sent(self, job: _Job, now: float) -> None:
        job.shorten(job.sent)  # what gathered meanwhile has still to go
        if now >= job.expire_due:
            job.expire_due = now + RUNNING_S / 2
        if job.final and not job.dirty:
            self._drop(job)
            job.settle()

    def _keep(self, batch: Sequence[_Job], fault: Exception, now: float) -> None:
        log.warning("the token stream is not written, trying again: %s", fault)
        for job in self._jobs.values():
            job.sent, job.expire_due = 0, 0.0
        for job in batch:
            job.shorten(len(job.tail))
            if job.final and now > job.given_up_at:
                self._drop(job)
            else:
                self._mark(job)


def _entry(job: _Job, now: float) -> tuple[str | bytes | int, ...]:
    seconds: int | bytes = b""
    if job.final:
        seconds = KEEP_S
    elif now >= job.expire_due:
        seconds = RUNNING_S
    told = (b"e", job.final) if job.final else (b"c", job.counts.dump())
    return f"{job.attempt}-{job.last}", b"\n".join(job.tail[job.sent :]), *told, seconds
