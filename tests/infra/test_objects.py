"""The same promises over a directory and two S3 servers, of which one honours conditional writes and one does not."""

import asyncio
import os
import resource
import sys
import time
from pathlib import Path

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from infra.objects import DirectoryStore, S3Store, open_store
from models.errors import Conflict, InvalidRequest, NotFound, Unavailable
from tests.infra.conftest import START_S, Rclone, Wire, keys_of, opened

EIGHT_MIB = 8 << 20
BAD_KEYS = (
    *(
        "",
        "/",
        ".",
        "..",
        "/a",
        "a/",
        "a//b",
        "../a",
        "a/../b",
        "a/..",
        "./a",
        "a/./b",
        ".hidden",
        ".staging/a",
        "a/.b",
    ),
    *("a\0b", "a\nb", "a\n", "a b", "a\\b", "C:\\a", "ä", "a/%2e%2e/b?", "~/a", "$(id)", "x" * 201, "a/" * 300 + "a"),
)


async def test_what_was_put_is_got(store):
    await store.put("files/a.json", b'{"k": 1}')
    assert await store.get("files/a.json") == b'{"k": 1}'


async def test_put_replaces(store):
    await store.put("a", b"the first, which is longer")
    await store.put("a", b"second")
    assert await store.get("a") == b"second"


async def test_put_new_never_replaces(store):
    assert await store.put_new("a/b", b"first") is True
    assert await store.put_new("a/b", b"second") is False
    assert await store.get("a/b") == b"first"


async def test_put_new_sees_what_put_wrote_and_a_deleted_name_is_free_again(store):
    await store.put("a", b"first")
    assert await store.put_new("a", b"second") is False
    await store.delete("a")
    assert await store.put_new("a", b"third") is True
    assert await store.get("a") == b"third"


async def test_what_is_not_there_is_not_found(store):
    with pytest.raises(NotFound):
        await store.get("nothing/here")


async def test_delete_is_idempotent(store):
    await store.put("a/b", b"x")
    await store.delete("a/b")
    await store.delete("a/b")
    await store.delete("never/was")
    with pytest.raises(NotFound):
        await store.get("a/b")
    assert await keys_of(store) == []


async def test_empty_and_binary_objects_come_back_as_they_went(store):
    every_byte = bytes(range(256)) * 5
    await store.put("empty", b"")
    await store.put("binary", every_byte)
    assert (await store.get("empty"), await store.get("binary")) == (b"", every_byte)


async def test_big_objects(store):
    data = os.urandom(EIGHT_MIB)
    await store.put("big/one", data)
    assert await store.put_new("big/two", data) is True
    assert await store.get("big/one") == data
    assert await store.get("big/two") == data


async def test_list_goes_by_characters_not_by_folders(store):
    names = ("a", "b/1", "b/2/x", "b/20", "b.c", "b-c", "bb/1", "c/d/e/f")
    for name in names:
        await store.put(name, b"")
    assert await keys_of(store) == sorted(names)
    assert await keys_of(store, "b") == ["b-c", "b.c", "b/1", "b/2/x", "b/20", "bb/1"]
    assert await keys_of(store, "b/") == ["b/1", "b/2/x", "b/20"]
    assert await keys_of(store, "b/2") == ["b/2/x", "b/20"]
    assert await keys_of(store, "c/d/e/") == ["c/d/e/f"]
    assert await keys_of(store, "nothing/here/") == await keys_of(store, "a/") == []


async def test_list_goes_on_after_a_page(directory, moto):
    names = [f"n/{number:04}" for number in range(1003)]
    for store in (directory, moto):
        for start in range(0, len(names), 17):
            await asyncio.gather(*(store.put(name, b"") for name in names[start : start + 17]))
        assert await keys_of(store, "n/") == names


async def test_a_stores_keys_stay_below_its_prefix(moto_url, aws, bucket):
    aws(moto_url, bucket)
    async with opened(S3Store(bucket)) as whole, opened(S3Store(bucket, "mine")) as mine:
        await whole.put("mine2/a", b"theirs")
        await mine.put("a", b"mine")
        assert await keys_of(mine) == ["a"]
        assert await keys_of(whole) == ["mine/a", "mine2/a"]


@pytest.mark.parametrize("key", BAD_KEYS)
async def test_bad_keys_are_refused_by_every_verb(directory, key):
    for call in (directory.get(key), directory.put(key, b""), directory.put_new(key, b""), directory.delete(key)):
        with pytest.raises(InvalidRequest):
            await call


@pytest.mark.parametrize("key", BAD_KEYS)
async def test_bad_keys_are_refused_before_s3_hears_of_them(moto, key):
    for call in (moto.get(key), moto.put(key, b""), moto.put_new(key, b""), moto.delete(key)):
        with pytest.raises(InvalidRequest):
            await call


@pytest.mark.parametrize("prefix", ["/", "/a", "..", "../", "a/../", "a//", ".", ".staging/", "a\0", "a/*"])
async def test_bad_prefixes_are_refused(directory, moto, prefix):
    for store in (directory, moto):
        with pytest.raises(InvalidRequest):
            await keys_of(store, prefix)


async def test_of_eight_racing_writers_one_wins(directory, moto):
    for store in (directory, moto):
        for round_ in range(5):
            key, texts = f"race/{round_}", [b"%d" % number * 1000 for number in range(8)]
            won = await asyncio.gather(*(store.put_new(key, text) for text in texts))
            assert won.count(True) == 1
            assert await store.get(key) == texts[won.index(True)]


async def test_where_conditions_are_ignored_it_is_known_and_told(rclone_url, aws, bucket):
    aws(rclone_url, bucket)
    with capture_logs() as logged:
        async with opened(S3Store(bucket)) as store:
            assert store.conditional is False
            assert await keys_of(store) == []  # the probe cleans up
    warned = [entry["event"] for entry in logged if entry["log_level"] == "warning"]
    assert warned == ["objects.conditional_writes_ignored"]


async def test_where_conditions_are_honoured_nothing_is_said(moto_url, aws, bucket):
    aws(moto_url, bucket)
    with capture_logs() as logged:
        async with opened(S3Store(bucket)) as store:
            assert store.conditional is True
            assert await keys_of(store) == []
    assert logged == []


async def test_a_server_that_knows_no_conditions_is_used_without(aws):
    """Some S3-likes answer 501 to the header instead of ignoring it."""

    async def answer(request: web.BaseRequest) -> web.Response:
        await request.read()
        return web.Response(status=501 if "If-None-Match" in request.headers else 200)

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    aws(f"http://127.0.0.1:{runner.addresses[0][1]}")
    with capture_logs():
        async with opened(S3Store("bucket")) as store:
            assert store.conditional is False
    await runner.cleanup()


async def test_one_who_wrote_and_was_not_told_is_still_the_one_who_wrote(moto_url, aws, bucket):
    """The answer to a conditional PUT is lost; boto3's second try finds the object in its way, its own."""
    aws(moto_url, bucket)
    async with Wire(moto_url) as wire:
        aws(wire.url)
        async with opened(S3Store(bucket)) as store:
            wire.lose_answers = 1
            assert await store.put_new("a", b"mine") is True
            assert wire.lose_answers == 0
            wire.lose_answers = 1
            assert await store.put_new("a", b"other") is False
            assert await store.get("a") == b"mine"


async def test_an_answer_cut_off_in_its_middle_is_not_an_object(moto_url, aws, bucket):
    aws(moto_url, bucket)
    async with Wire(moto_url) as wire:
        aws(wire.url)
        async with opened(S3Store(bucket)) as store:
            await store.put("big", b"x" * EIGHT_MIB)
            wire.cut_answer_after = EIGHT_MIB // 2
            with pytest.raises(Unavailable):
                await store.get("big")
            wire.cut_answer_after = None
            assert len(await store.get("big")) == EIGHT_MIB


async def test_a_server_that_dies_makes_every_verb_unavailable(tmp_path, aws, bucket):
    server = Rclone(tmp_path)
    try:
        aws(server.url, bucket)
        with capture_logs():
            store = S3Store(bucket)
            await store.open()
        await store.put("a", b"x")
    finally:
        server.kill()
    try:
        calls = (store.get("a"), store.put("a", b""), store.put_new("b", b""), store.delete("a"), keys_of(store))
        for fault in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(fault, Unavailable)
            assert fault.retryable
    finally:
        await store.close()


async def test_a_store_that_cannot_be_written_fails_at_start(rclone_url, aws, bucket, monkeypatch):
    aws(rclone_url, bucket)
    for bad in (S3Store("no-such-bucket"), S3Store("Not a bucket")):
        with pytest.raises(Unavailable):
            async with opened(bad):
                pass
        await bad.close()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    refused = S3Store(bucket)
    with pytest.raises(Unavailable, match="SignatureDoesNotMatch"):
        await refused.open()
    await refused.close()


async def test_host_names_of_servers_are_not_prefixed_with_the_bucket(moto_url, aws, bucket):
    """minio:9000, localhost:9000: nobody has a DNS entry for each of its buckets."""
    aws(moto_url, bucket)
    aws(moto_url.replace("127.0.0.1", "localhost"))
    async with opened(S3Store(bucket)) as store:
        await store.put("a", b"x")
        assert await store.get("a") == b"x"


async def test_a_directory_that_is_a_file_fails_at_start(tmp_path):
    (tmp_path / "objects").write_text("not a folder")
    store = DirectoryStore(tmp_path / "objects")
    with pytest.raises(Unavailable):
        await store.open()
    await store.close()


async def test_a_key_is_no_folder_of_other_keys(directory):
    await directory.put("a", b"leaf")
    await directory.put("b/c", b"leaf")
    for key in ("a/b", "a/b/c", "b"):
        for call in (directory.put(key, b""), directory.put_new(key, b"")):
            with pytest.raises(Conflict):
                await call
    for key in ("a/b", "b"):
        with pytest.raises(NotFound):
            await directory.get(key)
        await directory.delete(key)
    assert await keys_of(directory) == ["a", "b/c"]


async def test_a_reader_never_sees_half_a_file(directory):
    texts = {b"a" * 300_000, b"b" * 500_000}
    await directory.put("k", min(texts))

    async def write():
        for _ in range(20):
            for text in texts:
                await directory.put("k", text)

    writing = asyncio.create_task(write())
    while not writing.done():
        assert await directory.get("k") in texts
    await writing


async def test_a_full_disk_leaves_the_old_object_and_no_litter(directory, tmp_path):
    await directory.put("k", b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # writes fail beyond, as on a full disk
    try:
        with pytest.raises(Unavailable):
            await directory.put("k", b"x" * 200_000)
        with pytest.raises(Unavailable):
            await directory.put_new("n", b"x" * 200_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert await directory.get("k") == b"old"
    assert [path.name for path in (tmp_path / "objects").rglob("*") if path.is_file()] == ["k"]


_ENDLESS_WRITER = """
import asyncio, sys
from pathlib import Path
from infra.objects import DirectoryStore

async def main():
    store = DirectoryStore(Path(sys.argv[1]))
    await store.open()
    for number in range(1_000_000):
        await store.put("k", bytes([number % 256]) * (4 << 20))
        await store.put_new(f"n/{number}", bytes([number % 256]) * (1 << 20))
        print(number, flush=True)

asyncio.run(main())
"""


async def test_a_writer_killed_at_any_moment_leaves_whole_objects_only(tmp_path):
    root = tmp_path / "objects"
    for _ in range(3):
        program = (sys.executable, "-c", _ENDLESS_WRITER, root)
        writer = await asyncio.create_subprocess_exec(*program, stdout=asyncio.subprocess.PIPE)
        try:
            for _ in range(3):
                assert await asyncio.wait_for(writer.stdout.readline(), START_S)
        finally:
            writer.kill()
            await writer.communicate()
        async with opened(DirectoryStore(root)) as store:
            for key in await keys_of(store):
                data = await store.get(key)
                assert (len(data), len(set(data))) == (4 << 20 if key == "k" else 1 << 20, 1)


async def test_what_a_dead_writer_left_is_swept_at_start_and_what_a_live_one_writes_is_not(tmp_path):
    root = tmp_path / "objects"
    async with opened(DirectoryStore(root)):
        pass
    left, fresh = root / ".staging" / "left", root / ".staging" / "fresh"
    left.write_bytes(b"x")
    fresh.write_bytes(b"x")
    two_hours_ago = time.time() - 7200
    os.utime(left, (two_hours_ago, two_hours_ago))
    async with opened(DirectoryStore(root)) as store:
        assert await keys_of(store) == []
    assert (left.exists(), fresh.exists()) == (False, True)


async def test_files_of_others_in_the_directory_are_not_objects(directory, tmp_path):
    (tmp_path / "objects" / "README with spaces").write_text("")
    (tmp_path / "objects" / ".DS_Store").write_text("")
    await directory.put("a", b"")
    assert await keys_of(directory) == ["a"]


async def test_nobody_else_may_read_a_new_directory(tmp_path):
    async with opened(DirectoryStore(tmp_path / "new")):
        assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("form", ["file:{}", "file://{}"])
async def test_open_store_takes_a_path_as_it_is(tmp_path, form):
    root = tmp_path / "with space #and %41"
    async with opened(open_store(form.format(root))) as store:
        await store.put("a", b"x")
    assert (root / "a").read_bytes() == b"x"


@pytest.mark.parametrize("form", ["s3://{}", "s3://{}/", "s3://{}/deep/prefix/"])
async def test_open_store_takes_a_bucket_with_or_without_prefix(moto_url, aws, bucket, form):
    aws(moto_url, bucket)
    async with opened(open_store(form.format(bucket))) as store:
        await store.put("a", b"x")
        assert await keys_of(store) == ["a"]


@pytest.mark.parametrize(
    "url", ["", "file:", "file:relative", "file://host/a", "/a", "s3:", "s3://", "s3:///a", "s3:b/a", "gs://b"]
)
def test_open_store_refuses_what_it_does_not_know(url):
    with pytest.raises(InvalidRequest):
        open_store(url)


def test_open_store_refuses_a_prefix_that_is_no_key():
    with pytest.raises(InvalidRequest):
        open_store("s3://bucket/../other")


def test_the_directory_is_named_by_an_absolute_path():
    assert isinstance(open_store(f"file:{Path.cwd()}"), DirectoryStore)
