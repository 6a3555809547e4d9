"""Is a follower told when an attempt answers anew, because Redis had lost what earlier ones had said?"""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from infra.redis import STREAM, client
from infra.token_stream import START, Entry, EventId, TokenReader, TokenWriter, read_all, take_over
from models.wire.stream import RESTART

JOB = "job_01jd00000000000000000000a1"
SOON_S = 20.0


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    connected = client(redis_url)
    await connected.flushall()
    yield connected
    await connected.aclose()


@pytest.fixture
async def reader(redis: Redis) -> AsyncIterator[TokenReader]:
    made = TokenReader(redis)
    await made.open()
    yield made
    await made.close()


async def say(redis: Redis, attempt: int, first: int, last: int, *, end: bool = False) -> None:
    """Chunks of an attempt, by a worker of its own."""
    writer = TokenWriter(redis)
    await writer.open()
    for number in range(first, last + 1):
        writer.append(JOB, attempt, number, b"%d-%d" % (attempt, number))
    if end:
        await writer.end(JOB, attempt, last + 1, b"{}")
    await writer.close()


async def told(reader: TokenReader, after: EventId = START, *, redis: Redis | None = None) -> list[bytes]:
    """What a follower is told until the end; between its first words and the rest, `redis` is emptied and answers anew."""
    chunks: list[bytes] = []
    async with reader.follow(JOB, after) as follower:
        while True:
            entry = await follower.next(SOON_S)
            assert entry is not None
            chunks += entry.chunks
            if entry.final is not None:
                return chunks
            if redis is not None and entry.last_sequence == 5:
                await redis.delete(STREAM + JOB)
                assert await take_over(redis, JOB, 2) == []
                await say(redis, 2, 1, 8, end=True)


def said(attempt: int, first: int, last: int) -> list[bytes]:
    return [b"%d-%d" % (attempt, number) for number in range(first, last + 1)]


async def test_who_has_heard_what_was_lost_is_told_that_it_is_void(redis: Redis, reader: TokenReader):
    await say(redis, 1, 1, 5)
    assert await told(reader, redis=redis) == [*said(1, 1, 5), RESTART, *said(2, 1, 8)]


async def test_who_comes_back_for_more_of_it_is_told_so_too(redis: Redis, reader: TokenReader):
    await say(redis, 2, 1, 8, end=True)
    assert await told(reader, EventId(1, 5)) == [RESTART, *said(2, 1, 8)]


async def test_of_what_was_lost_in_part_the_rest_is_told_again(redis: Redis, reader: TokenReader):
    """Redis came back without its last second, and the next attempt went on behind what was left."""
    await say(redis, 1, 1, 3)
    await say(redis, 2, 4, 8, end=True)
    assert await told(reader, EventId(1, 5)) == [RESTART, *said(1, 1, 3), *said(2, 4, 8)]


async def test_an_attempt_that_goes_on_voids_nothing(redis: Redis, reader: TokenReader):
    await say(redis, 1, 1, 5)
    await say(redis, 2, 6, 8, end=True)
    assert await told(reader) == [*said(1, 1, 5), *said(2, 6, 8)]
    for attempt in (0, 1):  # 0: who counts, and does not know the attempts
        assert await told(reader, EventId(attempt, 4)) == [*said(1, 5, 5), *said(2, 6, 8)]
    for attempt in (0, 2):
        assert await told(reader, EventId(attempt, 7)) == said(2, 8, 8)


async def test_an_end_by_somebody_who_knows_no_numbers_voids_nothing(redis: Redis, reader: TokenReader):
    await say(redis, 1, 1, 5)
    await say(redis, 2, 1, 0, end=True)
    assert await told(reader, EventId(1, 3)) == said(1, 4, 5)


async def test_a_third_attempt_takes_over_the_second_answer_alone(redis: Redis):
    await say(redis, 1, 1, 5)
    await say(redis, 2, 1, 8)
    assert [chunk for entry in await take_over(redis, JOB, 3) for chunk in entry.chunks] == said(2, 1, 8)
    await say(redis, 3, 9, 9, end=True)
    found = await read_all(redis, JOB)
    assert (found[0].first_sequence, found[-1].last_sequence) == (1, 10)
    assert all(isinstance(entry, Entry) for entry in found)
