"""What lies in a job's stream?

An answer's chunks are numbered 1, 2, 3, … through all attempts; the end takes the next number.  An entry holds some chunks in a row
(field `d`, joined by newlines) and either the end (field `e`) or what the answer has cost up to here (field `c`), and its id is `<attempt>-<number of the last thing in it>`.  So the
event id of a chunk is `<attempt>-<its number>`, ids grow, and Redis itself refuses a late writer once a later attempt has
written: fencing costs nothing.

A writer that cannot know whether its words arrived says them again, so entries may overlap; a reader drops what it has (`unseen`).
A hole means that Redis lost data for good.  If it lost them all, the next attempt counts from 1 again, and what was seen is void.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

from redis.asyncio import Redis

from infra.redis import FAULTS, STREAM
from models.errors import Conflict, Interrupted, InvalidRequest, Unavailable

RUNNING_S = 3_600
KEEP_S = 900
"""How long an ended stream can be rejoined; after that the row answers."""

APPEND = """
local answers = {}
for i, key in ipairs(KEYS) do
  local id, chunks, field, value, ttl = unpack(ARGV, 5 * i - 4, 5 * i)
  local added = redis.pcall('XADD', key, id, 'd', chunks, field, value)
  answers[i] = ''
  if added.err then
    if not string.find(added.err, 'equal or smaller', 1, true) then return added end
    answers[i] = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1][1]
  elseif ttl ~= '' then
    redis.call('EXPIRE', key, ttl)
  end
end
return answers
"""
"""Entries of many streams: id, chunks, `e` or `c`, its value, seconds to live each.  Answers '' or, where refused, the id on top.  One script, since
its entries appear at once: readers wake once a batch, not once an entry, and a refusal is explained without a second trip."""

NUMBER_MOST = 10**15 - 1
"""A chunk's, as clients may name it.  Redis' ids end at 64 bits: one beyond them, and the read that names all streams is refused."""
_EVENT_ID = re.compile(r"([0-9]{1,9})-([0-9]{1,15})")


class Fenced(Conflict):
    """A later attempt has written: this one's words are refused, and its worker should stop."""

    code = "fenced"


class EventId(NamedTuple):
    attempt: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.attempt}-{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """What a client sends as `Last-Event-ID`.  Raises InvalidRequest."""
        found = _EVENT_ID.fullmatch(text)
        if not found:
            raise InvalidRequest("Last-Event-ID has to be an id this stream has sent, like 1-42", param="Last-Event-ID")
        return cls(int(found[1]), int(found[2]))


START = EventId(0, 0)


class Counts(NamedTuple):
    """Tokens, up to and including an entry's last chunk: what a later attempt must know to count on."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    waited_ms: int = -1
    """No token: how long the job waited for its first claim, which whoever reads the first entry tells the caller; -1: not said."""

    def dump(self) -> bytes:
        return b"%d %d %d %d" % self

    @classmethod
    def load(cls, text: bytes) -> Self:
        return cls(*map(int, text.split()))


NOTHING = Counts()


@dataclass(frozen=True, slots=True)
class Entry:
    attempt: int
    first_sequence: int
    """Number of the first chunk; where there is none, of the end."""
    chunks: list[bytes]
    final: bytes | None = None
    counts: Counts = NOTHING

    @property
    def last_sequence(self) -> int:
        """Number of the last chunk, or of the end."""
        return self.first_sequence + len(self.chunks) - (self.final is None)


def key_of(job_id: str) -> bytes:
    return (STREAM + job_id).encode()


def decode(entry_id: bytes, joined: bytes, final: bytes | None, counts: bytes = b"") -> Entry:
    attempt, _, sequence = entry_id.partition(b"-")
    chunks = joined.split(b"\n") if joined else []
    first = int(sequence) - len(chunks) + (final is None)
    return Entry(int(attempt), first, chunks, final, Counts.load(counts))


def unseen(entry: Entry, seen: int) -> Entry | None:
    """What is new in `entry` to a reader that has the chunks up to `seen`."""
    known = max(0, seen + 1 - entry.first_sequence)
    chunks = entry.chunks[known:] if known else entry.chunks
    if not chunks and entry.final is None:
        return None
    return replace(entry, first_sequence=entry.first_sequence + known, chunks=chunks) if known else entry


async def read_all(redis: Redis, job_id: str) -> list[Entry]:
    """All that has been said so far, each chunk once.  Raises Interrupted when there is a hole, Unavailable."""
    try:
        found: Any = await redis.xrange(key_of(job_id))
    except FAULTS as fault:
        raise Unavailable("the token stream cannot be read") from fault
    entries = (decode(name, told[b"d"], told.get(b"e"), told.get(b"c", b"")) for name, told in found)
    return _in_a_row(entries)


async def take_over(redis: Redis, job_id: str, attempt: int) -> list[Entry]:
    """What earlier attempts said, after making sure that they can add nothing more.  Raises Fenced, Interrupted, Unavailable."""
    try:
        top = (await redis.eval(APPEND, 1, key_of(job_id), f"{attempt}-0", "", "c", "", RUNNING_S))[0]
    except FAULTS as fault:
        raise Unavailable("the token stream cannot be written") from fault
    if top and attempt_of(top) > attempt:
        raise Fenced(f"attempt {attempt_of(top)} of this job has begun")
    return await read_all(redis, job_id)


def attempt_of(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])


def begins_anew(entry: Entry, seen: int, by: int) -> bool:
    """Whether `entry` voids the chunks up to `seen`, the last of which attempt `by` sent: its own did not know of all of them.

    Redis may have lost them before it began.  What only ends, and has no chunks, voids nothing: its number means nothing.
    """
    return by < entry.attempt and entry.first_sequence <= seen and bool(entry.chunks)


def _in_a_row(entries: Iterable[Entry]) -> list[Entry]:
    found: list[Entry] = []
    for entry in entries:
        if found and begins_anew(entry, found[-1].last_sequence, found[-1].attempt):
            found.clear()
        seen = found[-1].last_sequence if found else 0
        if entry.first_sequence > seen + 1:
            raise Interrupted("part of the answer's stream was lost")
        if (fresh := unseen(entry, seen)) is not None:
            found.append(fresh)
    return found
