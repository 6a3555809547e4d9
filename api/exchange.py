"""How do conversations leave in a file, and come in one?  As a stream, in the memory of a page of conversations.

Out: records are read a page at a time, and written as the format has it; no transaction lasts for longer than a page.  In: the file is
put aside on the disk, looked through as a whole, and then brought in, a few records a transaction.  So a file with a mistake brings
nothing, a record is in whole or not at all, and a file that broke off or comes again goes on where it was.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from functools import partial
from typing import Any, BinaryIO, Protocol

import orjson
from starlette.requests import ClientDisconnect, Request

from api.deps import State
from infra.clock import now_ms
from infra.images import ALL_MOST_BYTES
from infra.parquet import ParquetSheet
from infra.parquet_rows import AT_ONCE, rows_in
from infra.record_files import records_in
from models.accounts import Caller
from models.errors import InvalidRequest, TooLarge
from models.exports import records
from models.imports import Brought, bring_all
from models.marks import Marker
from models.searches import Wanted
from models.wire import bodies
from models.wire.exported import sharegpt_record
from models.wire.imported import Format, Parsed, parsed

FILE_MOST_BYTES = 512 << 20
_UNPACKED = 20
"""How much longer than the file its records may be, beyond what a file may have: a Parquet file of a kilobyte can say the same for days."""
_MESSAGES_AT_ONCE = 200
"""In one transaction, which others wait for: some tens of milliseconds."""
_RECORDS_AT_ONCE = 20
_BYTES_AT_ONCE = 4 << 20
_PICTURES_BYTES = 2 * ALL_MOST_BYTES
"""What a record may have beyond a request's body: pictures that were fetched for it, in base64, and what was answered."""
_THREADS = ThreadPoolExecutor(AT_ONCE, "import")
"""For reading files, which takes minutes of large ones; not the loop's own, in which every chat's prompt is counted."""
_Sized = tuple[int, Parsed]
"""A record, and how many bytes it was read from."""


class Sheet(Protocol):
    content_type: str

    def add(self, records: Sequence[Mapping[str, Any]]) -> bytes:
        """What can be sent of the file now."""

    def end(self) -> bytes:
        """The rest."""


class JsonLines:
    content_type = "application/jsonl"

    def add(self, records: Sequence[Mapping[str, Any]]) -> bytes:
        return b"".join(orjson.dumps(record) + b"\n" for record in records)

    def end(self) -> bytes:
        return b""


class ShareGptArray:
    content_type = "application/json"

    def __init__(self) -> None:
        self._between = b"[\n"

    def add(self, records: Sequence[Mapping[str, Any]]) -> bytes:
        parts = []
        for record in records:
            parts += [self._between, orjson.dumps(sharegpt_record(record))]
            self._between = b",\n"
        return b"".join(parts)

    def end(self) -> bytes:
        return b"[]\n" if self._between == b"[\n" else b"\n]\n"


SHEETS: dict[str, Callable[[], Sheet]] = {"openai": JsonLines, "sharegpt": ShareGptArray, "parquet": ParquetSheet}


async def exported(
    state: State, caller: Caller, wanted: Wanted, sheet: Sheet, *, replays: bool
) -> AsyncIterator[bytes]:
    """The first piece is there before anything is sent, so what is wrong with the request has its status."""
    after: str | None = None
    page = partial(records, marker=Marker(caller.account_id, caller.salt), wanted=wanted, replays=replays)
    while True:
        rows, after = await state.database.read(partial(page, after=after))
        yield await asyncio.to_thread(sheet.add, rows)
        if after is None:
            break
    yield await asyncio.to_thread(sheet.end)


async def imported(state: State, caller: Caller, request: Request, form: Format, model: str | None) -> dict[str, Any]:
    """What came of it.  Raises InvalidRequest, which names the line; then nothing was brought."""
    model = (await state.intake.fleet.card(model)).id if model is None else model
    brought = Brought()
    with tempfile.TemporaryFile() as file:
        size = await _put_aside(request, file)
        reading = partial(_read, file, form, state.settings.max_body_bytes + _PICTURES_BYTES)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(_THREADS, _look_through, reading, max(FILE_MOST_BYTES, _UNPACKED * size))
        portions = _portions(reading())
        while portion := await loop.run_in_executor(_THREADS, next, portions, None):
            began = time.monotonic()
            verb = partial(bring_all, account_id=caller.account_id, records=portion, model=model, now_ms=now_ms())
            brought = _sum(brought, await state.database.write(verb))
            await asyncio.sleep(
                time.monotonic() - began
            )  # SQLite's lock is for whoever asks first; others have to end jobs
    return {"object": "conversation.import", **asdict(brought)}


async def _put_aside(request: Request, file: BinaryIO) -> int:
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > FILE_MOST_BYTES:
                raise TooLarge(f"a file has at most {FILE_MOST_BYTES} bytes", param="body")
            await asyncio.to_thread(file.write, part)
    except ClientDisconnect:
        raise InvalidRequest("the body broke off", param="body") from None
    return size


def _read(file: BinaryIO, form: Format, most_bytes: int) -> Iterator[_Sized]:
    file.seek(0)
    cut, unit = (rows_in, "row") if form == "parquet" else (records_in, "line")
    with closing(cut(file, most_bytes)) as rows:  # a process may be behind it
        for number, row in rows:
            where = f"{unit} {number}"
            try:
                yield len(row), parsed(bodies.parsed(row))
            except InvalidRequest as error:
                raise type(error)(f"{where}: {error.message}", param=where, code=error.own_code) from None


def _look_through(reading: Callable[[], Iterator[_Sized]], most_bytes: int) -> None:
    total = 0
    for size, _ in reading():
        total += size
        if total > most_bytes:
            raise TooLarge(f"unpacked, the file has more than {most_bytes} bytes", param="body")
    if total == 0:
        raise InvalidRequest("there is no record in the file", param="body")


def _portions(rows: Iterator[_Sized]) -> Iterator[list[Parsed]]:
    portion: list[Parsed] = []
    messages = held_bytes = 0
    for size, row in rows:
        portion.append(row)
        messages += len(row.messages)
        held_bytes += size
        if messages >= _MESSAGES_AT_ONCE or len(portion) == _RECORDS_AT_ONCE or held_bytes >= _BYTES_AT_ONCE:
            yield portion
            portion, messages, held_bytes = [], 0, 0
    if portion:
        yield portion


def _sum(one: Brought, other: Brought) -> Brought:
    return Brought(**{name: value + getattr(other, name) for name, value in asdict(one).items()})
