"""Are an object's lines told whole, in whatever pieces they are read, and is an endless one not gathered?"""

import os

import pytest

from infra.objects import DirectoryStore
from infra.objects import store as objects
from infra.objects.lines import grouped
from tests.infra.conftest import opened

MOST = 1000


async def told(store: DirectoryStore, data: bytes) -> list[bytes]:
    await store.put("a", data)
    return [line async for group in grouped(store, "a", len(data), MOST) for line in group]


@pytest.mark.parametrize("piece", [1, 2, 7, 64, 1 << 20])
@pytest.mark.parametrize("data", [b"", b"a", b"a\n", b"\n", b"a\nbb\n\nccc", b"x" * 500 + b"\n" + b"y" * 500 + b"\n\n"])
async def test_lines_are_those_of_the_text(tmp_path, monkeypatch, data, piece):
    monkeypatch.setattr(objects, "PIECE_BYTES", piece)
    async with opened(DirectoryStore(tmp_path)) as store:
        found = await told(store, data)
    assert b"\n".join(found).rstrip(b"\n") == data.rstrip(b"\n")
    assert found[: data.count(b"\n")] == data.split(b"\n")[:-1]


async def test_of_an_endless_line_only_the_beginning_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(objects, "PIECE_BYTES", 100)
    line = os.urandom(5000).replace(b"\n", b" ")
    async with opened(DirectoryStore(tmp_path)) as store:
        assert await told(store, b"a\n" + line + b"\nb") == [b"a", line[: MOST + 1], b"b"]
