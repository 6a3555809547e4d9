"""Are a file's rows made whole, whoever makes them at once or dies over it, and its files written once?"""

import asyncio
import json
from functools import partial
from types import SimpleNamespace

import orjson
import pytest
from sqlalchemy import func, select

from infra.clock import now_ms
from infra.objects import DirectoryStore
from models import batch_results, batch_rows, batch_turns, batches, conversations, files
from models.batches import NewBatch
from models.files import NewFile, Purpose, object_key
from models.tables.batches import BatchKind, BatchRow, BatchState
from models.tables.files import File, FileState
from models.tables.jobs import Job
from tests.workers import feeding
from tests.workers.feeding import answer, get, rows, turn
from workers import batch_file
from workers.batch_file import FileKind

world = feeding.world
CHATS = "/v1/chat/completions"
OUT, ERR = files.new_id(1), files.new_id(2)


def line(number: int, system: str = "", **body) -> bytes:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": f"{number}"}]
    told = {"custom_id": f"r{number}", "method": "POST", "url": CHATS}
    return json.dumps(told | {"body": {"model": "tram-demo", "messages": messages, **body}}).encode() + b"\n"


@pytest.fixture
async def place(world, tmp_path):
    """The world with an object store, and feeders that know files."""
    store = DirectoryStore(tmp_path / "objects")
    await store.open()

    def feeder(name="f"):
        made = world.feeder(name)
        made.objects, made.kinds = store, {BatchKind.FILE: FileKind(1 << 20)}
        return made

    yield SimpleNamespace(**vars(world) | {"store": store, "feeder": feeder})
    await store.close()


async def begin(place, data: bytes, state=FileState.STORED):
    file_id = files.new_id()

    async def whole():
        yield data

    size = await place.store.put_stream(object_key(place.account, file_id), whole())
    spec = {"input_file_id": file_id, "endpoint": CHATS, "completion_window": "1h"}
    spec |= {"output_file_id": OUT, "error_file_id": ERR, "kept_s": 3600}

    def verb(session):
        files.begin(session, file_id, place.account, now_ms())
        files.store(session, NewFile(file_id, "in.jsonl", Purpose.BATCH, size, None))
        batches.begin(session, NewBatch("batch_1", place.account, BatchKind.FILE, spec, now_ms()))

    await place.database.write(verb)
    return file_id


async def held(place, file_id):
    find = partial(files.find, account_id=place.account, file_id=file_id, now_ms=now_ms())
    file = await place.database.read(find)
    if file is None:
        return None
    return [orjson.loads(each) for each in (await place.store.get(object_key(place.account, file_id))).splitlines()]


async def test_rows_stand_in_the_files_order_and_are_fed_by_likeness(place):
    systems = ["a" * 600, "b" * 600, "c" * 600]
    await begin(place, b"".join(line(number, systems[number % 3]) for number in range(30)))
    await turn(place.feeder())
    found = await rows(place)
    assert [row.name for row in found] == [f"r{number}" for number in range(30)]
    fed = [row.number % 3 for row in sorted(found, key=lambda row: row.place)]
    assert sum(1 for number, group in enumerate(fed[1:]) if group != fed[number]) == 2
    assert sorted(row.place for row in found) == list(range(30))


async def test_a_file_comes_to_two(place, monkeypatch):
    monkeypatch.setattr(batch_file, "ADD_ROWS", 3)
    monkeypatch.setattr(batch_results, "PAGE_ROWS", 4)
    await begin(place, b"".join(line(number, **({"colour": "red"} if number % 5 == 0 else {})) for number in range(20)))
    feeder = place.feeder()
    await turn(feeder)
    assert await answer(place) == 16
    await turn(feeder)
    batch = await get(place)
    assert (batch.state, batch.completed, batch.failed) == (BatchState.COMPLETED, 16, 4)
    assert batch.output == {"output_file_id": OUT, "error_file_id": ERR}
    errors = await held(place, ERR)
    assert [each["custom_id"] for each in errors] == ["r0", "r5", "r10", "r15"]
    assert [each["response"]["status_code"] for each in errors] == [400] * 4
    assert len(await held(place, OUT)) == 16


async def test_a_row_belongs_to_the_conversation_that_it_names(place):
    made = await place.database.write(partial(conversations.create, account_id=place.account, columns={}, now_ms=1))
    rest = line(2, conversation_id=made.id) + line(3, conversation_id="conv_" + "0" * 26)
    await begin(place, line(1, conversation="my thread") + rest)
    await turn(place.feeder())
    told = select(Job.conversation_name, Job.conversation_id)
    found = await place.database.read(lambda session: session.execute(told).all())
    assert set(map(tuple, found)) == {("my thread", None), (None, made.id)}
    refused = (await rows(place))[2].error
    assert (refused["kind"], refused["param"]) == ("NotFound", "conversation_id")


async def test_a_file_that_is_gone_is_told(place):
    file_id = await begin(place, line(1))
    gone = partial(files.delete, account_id=place.account, file_id=file_id, now_ms=now_ms())
    await place.database.write(gone)
    await turn(place.feeder())
    batch = await get(place)
    assert (batch.state, [error["code"] for error in batch.errors]) == (BatchState.FAILED, ["file_not_found"])


async def test_bytes_that_are_gone_are_told(place):
    file_id = await begin(place, line(1))
    await place.store.delete(object_key(place.account, file_id))
    await turn(place.feeder())
    assert [error["code"] for error in (await get(place)).errors] == ["file_not_found"]


async def test_of_two_that_make_its_rows_at_once_none_makes_half(place, monkeypatch):
    """The one whose lease was taken over stops; whatever it has added by then is made anew."""
    monkeypatch.setattr(batch_file, "ADD_ROWS", 2)
    await begin(place, b"".join(line(number) for number in range(30)))
    first, second = place.feeder("first"), place.feeder("second")
    added = asyncio.Event()
    write = first.database.write

    async def slow(verb):
        told = await write(verb)
        if getattr(verb, "func", None) is batch_rows.add and not added.is_set():
            added.set()
            await asyncio.Event().wait()
        return told

    first.database = SimpleNamespace(read=first.database.read, write=slow)
    await first.round()
    await asyncio.wait_for(added.wait(), 20)
    later = now_ms() + batch_turns.LEASE_MS + 1
    await place.database.write(partial(batch_turns.take, holder="second", now_ms=later))
    await second._go_on("batch_1")
    await first.close()
    assert [row.name for row in await rows(place)] == [f"r{number}" for number in range(30)]
    assert (await get(place)).total == 30


async def test_one_that_began_with_rows_missing_would_be_noticed(place, monkeypatch):
    await begin(place, b"".join(line(number) for number in range(4)))
    feeder = place.feeder()
    monkeypatch.setattr(batch_rows, "add", lambda session, batch_id, holder, rows: None)
    await turn(feeder)
    assert (await get(place)).state is BatchState.VALIDATING
    monkeypatch.undo()
    await turn(feeder)
    assert (await get(place)).total == 4


async def test_who_dies_between_the_files_and_the_end_leaves_them_as_they_are(place, monkeypatch):
    await begin(place, line(1) + line(2))
    feeder = place.feeder()
    await turn(feeder)
    await answer(place)

    def dies(*_, **__):
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(batches, "end", dies)
        await turn(feeder)
    assert (await get(place)).state is BatchState.FINALIZING
    before = await held(place, OUT)
    await turn(place.feeder("another"))
    later = now_ms() + batch_turns.LEASE_MS + 1
    await place.database.write(partial(batch_turns.take, holder="another", now_ms=later))
    await turn(place.feeder("another"))
    assert (await get(place)).state is BatchState.COMPLETED
    assert await held(place, OUT) == before
    count = select(func.count()).select_from(File).where(File.purpose == Purpose.BATCH_OUTPUT)
    assert await place.database.read(lambda session: session.scalar(count)) == 1


async def test_what_was_written_of_a_file_before_a_long_absence_is_taken_away_first(place):
    """Whoever had begun it is back after its time: it is swept and written at once."""
    await begin(place, line(1) + line(2))
    feeder = place.feeder()
    await turn(feeder)
    await answer(place)
    long_ago = now_ms() - files.UPLOAD_MS - 1
    begun = partial(files.begin_again, file_id=OUT, account_id=place.account, now_ms=long_ago)
    await place.database.write(begun)
    ((name, key),) = await place.database.write(partial(files.take_due, now_ms=now_ms()))
    await turn(feeder)
    assert (await get(place)).state is BatchState.FINALIZING
    await place.store.delete(key)
    await place.database.write(partial(files.forget, names=[name]))
    await turn(feeder)
    assert (await get(place)).state is BatchState.COMPLETED
    assert len(await held(place, OUT)) == 2


async def test_a_file_that_is_long_in_the_writing_is_not_given_up(place, monkeypatch):
    monkeypatch.setattr(batch_results, "PAGE_ROWS", 1)
    await begin(place, b"".join(line(number) for number in range(3)))
    feeder = place.feeder()
    await turn(feeder)
    await answer(place)
    clock = [now_ms()]
    put = place.store.put_stream

    async def slowly(pieces):
        async for piece in pieces:
            clock[0] += files.UPLOAD_MS * 2 // 3
            await place.database.write(partial(files.take_due, now_ms=clock[0]))
            yield piece

    monkeypatch.setattr(batch_file, "now_ms", lambda: clock[0])
    monkeypatch.setattr(place.store, "put_stream", lambda key, pieces: put(key, slowly(pieces)))
    await turn(feeder)
    assert (await get(place)).state is BatchState.COMPLETED
    assert len(await held(place, OUT)) == 3


async def test_cancelled_before_its_rows_were_there_it_has_none(place):
    await begin(place, line(1))
    cancel = partial(batches.cancel, account_id=place.account, batch_id="batch_1", kind=BatchKind.FILE)
    await place.database.write(partial(cancel, now_ms=now_ms()))
    await turn(place.feeder())
    batch = await get(place)
    assert (batch.state, batch.total) == (BatchState.CANCELLED, 0)
    assert batch.output == {"output_file_id": None, "error_file_id": None}
    count = select(func.count()).select_from(BatchRow)
    assert await place.database.read(lambda session: session.scalar(count)) == 0
