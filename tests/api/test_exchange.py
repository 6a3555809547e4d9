"""A file is looked through before anything of it is brought; what it says when it is unpacked has a bound, too."""

import asyncio
import io
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from api import exchange
from api.exchange import _look_through, _read, imported
from models import accounts
from models.errors import TooLarge

ROWS = 2_000
WITHIN_S = 20.0
RECORD = [{"role": "user", "content": "a" * 1000}]


def test_a_file_that_says_the_same_for_ever_is_not_read_to_its_end():
    sink = io.BytesIO()
    pq.write_table(pa.table({"messages": [RECORD] * ROWS}), sink, compression="zstd")
    assert len(sink.getvalue()) < 20_000
    with tempfile.TemporaryFile() as file:
        file.write(sink.getvalue())
        reading = partial(_read, file, "parquet", 1 << 20)
        _look_through(reading, 2 * ROWS * 1000)
        with pytest.raises(TooLarge, match="unpacked"):
            _look_through(reading, ROWS * 1000)


async def test_while_a_file_is_looked_through_the_loops_threads_are_for_others(database, monkeypatch):
    """They count every chat's prompt, and are few; a file of half a gigabyte takes a minute."""
    begun, go_on, loop = asyncio.Event(), threading.Event(), asyncio.get_running_loop()

    def slow(reading, most_bytes):
        loop.call_soon_threadsafe(begun.set)
        assert go_on.wait(WITHIN_S)
        _look_through(reading, most_bytes)

    async def body():
        yield b'{"messages": [{"role": "user", "content": "hello"}]}\n'

    account = await database.write(lambda session: accounts.create_account(session, "ada", 1))
    state = SimpleNamespace(database=database, settings=SimpleNamespace(max_body_bytes=1 << 20))
    request, caller = SimpleNamespace(stream=body), SimpleNamespace(account_id=account)
    monkeypatch.setattr(exchange, "_look_through", slow)
    loop.set_default_executor(ThreadPoolExecutor(1))
    coming = asyncio.create_task(imported(state, caller, request, "openai", "tram-demo"))
    async with asyncio.timeout(WITHIN_S):
        await begun.wait()
        try:
            assert await asyncio.to_thread(int) == 0
        finally:
            go_on.set()
        assert (await coming)["turns"] == 1
