"""Large objects go in and out piece by piece, whole or not at all; over a directory and two S3 servers."""

import asyncio
import contextlib
import os
from datetime import timedelta

import boto3
import pytest

from infra.objects import S3Store, read
from infra.objects.store import PIECE_BYTES
from models.errors import NotFound, Unavailable
from tests.infra.conftest import START_S, keys_of, opened

EIGHT_MIB = 8 << 20


async def flowing(data, size=100_000):
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("size", [0, 1, 65_536, PIECE_BYTES, PIECE_BYTES + 1, 2 * EIGHT_MIB + 3])
async def test_what_flowed_in_flows_out(store, size):
    data = os.urandom(size)
    await store.put("a/b", b"what was there before")
    assert await store.put_stream("a/b", flowing(data)) == size
    assert await store.get("a/b") == data
    assert b"".join([piece async for piece in read(store, "a/b", size)]) == data
    assert await keys_of(store) == ["a/b"]


async def test_a_part_of_an_object(store):
    await store.put("a", b"0123456789")
    assert await store.get_part("a", 0, 4) == b"0123"
    assert await store.get_part("a", 8, 4) == b"89"
    assert await store.get_part("a", 10, 4) == await store.get_part("a", 90, 4) == b""
    with pytest.raises(NotFound):
        await store.get_part("b", 0, 4)


async def test_an_object_that_has_become_shorter_is_not_told_as_whole(store):
    await store.put("a", b"0123456789")
    with pytest.raises(Unavailable):
        [piece async for piece in read(store, "a", 11)]


@pytest.mark.parametrize("before", [0, EIGHT_MIB // 2, 2 * EIGHT_MIB])
async def test_a_flow_that_breaks_off_leaves_what_was_there(store, before, tmp_path):
    async def breaking():
        async for piece in flowing(bytes(before)):
            yield piece
        raise EOFError

    await store.put("a", b"old")
    for key in ("a", "b"):
        with pytest.raises(EOFError):
            await store.put_stream(key, breaking())
    assert (await keys_of(store), await store.get("a")) == (["a"], b"old")
    assert list((tmp_path / "objects").glob(".staging/*")) == []


async def test_one_that_is_cancelled_leaves_nothing(store, tmp_path):
    begun = asyncio.Event()

    async def hanging():
        yield bytes(EIGHT_MIB)
        yield bytes(EIGHT_MIB)
        begun.set()
        await asyncio.Event().wait()

    writing = asyncio.create_task(store.put_stream("a", hanging()))
    await asyncio.wait_for(begun.wait(), START_S)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert await keys_of(store) == []
    assert list((tmp_path / "objects").glob(".staging/*")) == []


async def test_parts_that_a_dead_process_left_are_swept_at_start(moto, moto_url, bucket, monkeypatch):
    def left():
        with contextlib.closing(boto3.session.Session().client("s3")) as client:
            return client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])

    with contextlib.closing(boto3.session.Session().client("s3")) as client:
        client.create_multipart_upload(Bucket=bucket, Key="some/prefix/files/a")
        client.create_multipart_upload(Bucket=bucket, Key="others")
    with monkeypatch.context() as patch:
        patch.setattr("infra.objects.s3._STALE", timedelta(days=36_500))  # moto says that all began in 2010
        async with opened(S3Store(bucket, "some/prefix")):
            assert len(left()) == 2
    async with opened(S3Store(bucket, "some/prefix")):
        assert [each["Key"] for each in left()] == ["others"]
