"""How do all the clients of an API process follow their jobs' streams?

One connection, one blocking XREAD over every followed stream; what it brings is decoded once and handed to the streams' followers.
A stream that is added wakes the read through a stream of the reader's own.  A follower that does not keep up is let go and, once it
has taken what lies ready, reads on from where it stopped: the stream is the buffer, memory is not.

Redis away: followers wait (their `next` times out), the reader comes back by itself and goes on after the last entry it had.
"""

import asyncio
import logging
import secrets
from collections import deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from redis.asyncio import Redis

from infra.redis import BLOCK_MS, FAULTS, WAKE, Wire
from infra.token_stream.entry import START, Entry, EventId, begins_anew, decode, key_of, unseen
from models.errors import Interrupted
from models.wire.stream import RESTART

log = logging.getLogger(__name__)

READY_ENTRIES = 256
"""What may lie ready for one follower: five seconds at 50 tokens/s."""
PAGE = 64
"""Entries of one stream in one read.  Many clients that rejoin long streams at once must not hold the loop for long."""
_PAUSE_S_PER_STREAM = 4e-6
"""Naming a stream in a read costs about a microsecond here and in Redis; pausing in proportion keeps that at a fifth of a core."""
_WAKE_S = 60
_END, _COUNTS = [b"e"], [b"c"]
_BEGINNING = str(START).encode()
_XREAD = (b"XREAD", b"COUNT", PAGE, b"BLOCK", BLOCK_MS, b"STREAMS")
_TIMEOUT_S = 2 * BLOCK_MS / 1000
_BACKOFF_S = (0.05, 1.0)


@dataclass(slots=True, eq=False)
class Follower:
    """One reader of one stream, from `async with` to its end.  For one task at a time."""

    _reader: "TokenReader"
    key: bytes
    position: EventId
    _seen: int
    _told_by: int
    """The attempt that sent the last chunk seen; 0: not known."""
    _ready: deque[Entry] = field(default_factory=deque)
    _waiter: "asyncio.Future[None] | None" = None
    _following: bool = False
    _hole: bool = False

    async def __aenter__(self) -> Self:
        self._join()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.leave(self)

    async def next(self, timeout_s: float) -> Entry | None:
        """What comes next, each chunk once; None when nothing came in time.  Raises Interrupted when Redis lost what would come next.

        Where an attempt did not know of all that was seen, `RESTART` comes first, and then its answer from the beginning.
        """
        if not self._ready and not self._hole:
            if not self._following:
                self._join()
            await self._wait(timeout_s)
        if self._ready:
            return self._ready.popleft()
        if self._hole:
            raise Interrupted("part of the answer's stream was lost")
        return None

    def offer(self, entry: Entry, entry_id: EventId) -> bool:
        """False: this follower takes no more for now."""
        if entry_id <= self.position:
            return True
        if self._told_by and begins_anew(entry, self._seen, self._told_by):
            self._begin_anew(entry)
            return False
        self._hole = entry.first_sequence > self._seen + 1
        if self._hole or len(self._ready) >= READY_ENTRIES:
            self._following = False
            self._rouse()
            return False
        self.position = entry_id
        fresh = unseen(entry, self._seen)
        if fresh is not None:
            self._seen, self._told_by = fresh.last_sequence, entry.attempt
            self._ready.append(fresh)
            self._rouse()
        return True

    def _begin_anew(self, entry: Entry) -> None:
        """Reads once more from where the answer that `entry` is part of begins: there, or in what is left of an earlier attempt's."""
        self.position = EventId(entry.attempt, 0) if entry.first_sequence == 1 else START
        self._seen = self._told_by = 0
        self._ready.append(Entry(self.position.attempt, 0, [RESTART]))
        self._following = False
        self._rouse()

    def _join(self) -> None:
        self._following = True
        self._reader.join(self)

    def _rouse(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(timeout_s, self._rouse)  # asyncio.timeout costs three times as much
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None


@dataclass(slots=True)
class _Stream:
    cursor: bytes
    """Id of the last entry read, as Redis writes it."""
    followers: dict[Follower, None] = field(default_factory=dict)


class TokenReader:
    def __init__(self, redis: Redis) -> None:
        self._wire, self._bell = Wire(redis), Wire(redis)
        self._streams: dict[bytes, _Stream] = {}
        self._joining: dict[Follower, None] = {}
        self._wake_key = (WAKE + secrets.token_hex(8)).encode()
        self._woken_by = b"0-0"
        self._blocked = False
        self._waking: asyncio.Task[None] | None = None
        self._expire_due = 0.0
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self._task = asyncio.create_task(self._run(), name="token-reader")

    async def close(self) -> None:
        tasks = [task for task in (self._task, self._waking) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._wire.close()
        await self._bell.close()

    def follow(self, job_id: str, after: EventId = START) -> Follower:
        """Use with `async with`.  Any number may follow one job."""
        return Follower(self, key_of(job_id), after, after.sequence, after.attempt)

    def join(self, follower: Follower) -> None:
        self._joining[follower] = None
        if self._blocked and self._waking is None:
            self._waking = asyncio.create_task(self._wake())

    def leave(self, follower: Follower) -> None:
        self._joining.pop(follower, None)
        stream = self._streams.get(follower.key)
        if stream is not None:
            stream.followers.pop(follower, None)
            if not stream.followers:
                del self._streams[follower.key]

    async def _wake(self) -> None:
        now = asyncio.get_running_loop().time()
        try:
            await self._bell.call((b"XADD", self._wake_key, b"MAXLEN", 1, b"*", b"", b""), timeout_s=_TIMEOUT_S)
            if now >= self._expire_due:
                await self._bell.call((b"EXPIRE", self._wake_key, _WAKE_S), timeout_s=_TIMEOUT_S)
                self._expire_due = now + _WAKE_S / 2
        except FAULTS as fault:
            self._expire_due = 0.0  # the key may have gone, and its time to live with it
            log.info("the token reader was not woken, its read ends by itself: %s", fault)
        finally:
            self._waking = None

    async def _run(self) -> None:
        backoff_s = _BACKOFF_S[0]
        while True:
            self._admit()
            try:
                found = await self._read()
            except FAULTS as fault:
                log.warning("the token streams are not read, trying again: %s", fault)
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, _BACKOFF_S[1])
            else:
                backoff_s = _BACKOFF_S[0]
                self._hand_out(found)
                await asyncio.sleep(len(self._streams) * _PAUSE_S_PER_STREAM)

    def _admit(self) -> None:
        """Only between two reads, so that nothing reaches a follower before what it has missed."""
        for follower in self._joining:
            start = str(follower.position).encode()
            stream = self._streams.setdefault(follower.key, _Stream(start))
            if follower.position < EventId(*map(int, stream.cursor.split(b"-"))):
                stream.cursor = start
            stream.followers[follower] = None
        self._joining.clear()

    async def _read(self) -> Any:
        ids = [stream.cursor for stream in self._streams.values()]
        command: tuple[bytes | str | int, ...] = (*_XREAD, *self._streams, self._wake_key, *ids, self._woken_by)
        self._blocked = True
        try:
            return await self._wire.call(command, timeout_s=_TIMEOUT_S)
        finally:
            self._blocked = False

    def _hand_out(self, found: Any) -> None:
        for key, entries in found or ():
            if key == self._wake_key:
                self._woken_by = entries[-1][0]
            elif (stream := self._streams.get(key)) is not None:
                self._hand_to(stream, entries)

    def _hand_to(self, stream: _Stream, entries: list[tuple[bytes, list[bytes]]]) -> None:
        for entry_id, fields in entries:
            final = fields[3] if fields[2:3] == _END else None
            # Of the counts nobody here wants more than what the first says of the wait.
            counts = fields[3] if stream.cursor == _BEGINNING and fields[2:3] == _COUNTS else b""
            entry = decode(entry_id, fields[1], final, counts)
            stream.cursor = entry_id
            position = EventId(entry.attempt, entry.last_sequence)
            for follower in tuple(stream.followers):
                if not follower.offer(entry, position):
                    self.leave(follower)
