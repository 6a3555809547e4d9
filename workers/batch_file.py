"""What is a file's batch of its own?  Its rows are the lines of a file, and what it comes to are two files.

Relies on `workers.batch` to feed and to count.  All of it may be begun again: rows that were made in part are made anew, files are
written under ids that the batch has had from its beginning, and replace what a process that died had written of them.
"""

import asyncio
from array import array
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy.orm import Session

from infra.batch_results import line_of
from infra.clock import now_ms
from infra.objects.lines import grouped
from models import batch_results, batch_rows, batches, files
from models.batch_input import AROUND_BYTES, Input
from models.batches import NewRow, Settled
from models.errors import NotFound
from models.files import NewFile, Purpose, object_key
from models.tables.batches import Batch, BatchRow, BatchState, RowState
from models.tables.files import File
from models.tables.jobs import Door
from workers.batch import Effect, Feeder

_GONE = {
    "code": "file_not_found",
    "message": "the file is not there any more",
    "param": "input_file_id",
    "line": None,
}
ADD_ROWS = 200
"""Rows a transaction: it holds up others for a few milliseconds."""


class FileKind:
    def __init__(self, body_most_bytes: int) -> None:
        self.door = Door.BATCH
        self._body_most_bytes = body_most_bytes

    async def prepare(self, feeder: Feeder, batch: Batch) -> None:
        found = partial(files.find, account_id=batch.account_id, file_id=batch.spec["input_file_id"], now_ms=now_ms())
        file = await feeder.database.read(found)
        looked = Input(batch.spec["endpoint"], self._body_most_bytes)
        if file is None or not await self._look(feeder, file, looked):
            looked.errors.append(dict(_GONE))
        if file is None or looked.errors:
            await feeder.database.write(partial(_fail, batch=batch, errors=looked.errors))
        else:
            await self._add(feeder, batch, file, await asyncio.to_thread(_places, looked.keys))

    async def requests(self, feeder: Feeder, batch: Batch, rows: Sequence[BatchRow]) -> Mapping[int, dict[str, Any]]:  # noqa: ARG002
        return {row.number: row.body for row in rows if row.body is not None}

    async def consider(self, feeder: Feeder, batch: Batch, settled: Sequence[Settled]) -> Mapping[int, Effect]:  # noqa: ARG002
        return {}

    async def conclude(self, feeder: Feeder, batch: Batch, state: BatchState) -> dict[str, Any]:  # noqa: ARG002
        """Its files: one of answers, one of rows that have none; neither without rows."""
        output: dict[str, Any] = {"output_file_id": None, "error_file_id": None}
        made: list[NewFile] = []
        for word, ended, count in (
            ("output", RowState.COMPLETED, batch.completed),
            ("error", RowState.FAILED, batch.failed),
        ):
            if count:
                output[f"{word}_file_id"] = batch.spec[f"{word}_file_id"]
                made += await _written(feeder, batch, word, ended)
        await feeder.database.write(partial(batch_results.store, batch=batch, made=made, now_ms=now_ms()))
        return output

    def event(self, state: BatchState) -> str:
        return f"batch.{state}"

    async def _look(self, feeder: Feeder, file: File, looked: Input) -> bool:
        """Whether the file was there to its end."""
        try:
            async for group in self._groups(feeder, file):
                await asyncio.to_thread(looked.look, group)
                if looked.over:
                    break
        except NotFound:
            return False
        looked.end()
        return True

    async def _add(self, feeder: Feeder, batch: Batch, file: File, places: Sequence[int]) -> None:
        again = Input(batch.spec["endpoint"], self._body_most_bytes)
        held: list[NewRow] = []
        add = partial(batch_rows.add, batch_id=batch.id, holder=feeder.name)
        await feeder.database.write(partial(batch_rows.clear, batch_id=batch.id, holder=feeder.name))
        async for group in self._groups(feeder, file):
            held += await asyncio.to_thread(again.rows, group, places)
            while len(held) >= ADD_ROWS:
                await feeder.database.write(partial(add, rows=held[:ADD_ROWS]))
                held = held[ADD_ROWS:]
        await feeder.database.write(partial(add, rows=held))
        start = partial(batch_rows.start, batch_id=batch.id, holder=feeder.name, now_ms=now_ms())
        await feeder.database.write(partial(start, rows=len(places)))

    def _groups(self, feeder: Feeder, file: File) -> AsyncIterator[list[bytes]]:
        key = object_key(file.account_id, file.id)
        return grouped(feeder.objects, key, file.bytes, self._body_most_bytes + AROUND_BYTES)


def _places(keys: Sequence[bytes]) -> Sequence[int]:
    """Of each row, where it stands when those that begin alike follow one another."""
    places = array("I", bytes(4 * len(keys)))
    for place, number in enumerate(sorted(range(len(keys)), key=keys.__getitem__)):
        places[number] = place
    return places


async def _written(feeder: Feeder, batch: Batch, word: str, ended: RowState) -> list[NewFile]:
    """The file, still to be shown; none where it is there to be seen already."""
    file_id = batch.spec[f"{word}_file_id"]
    at_ms = now_ms()
    if not await _begun(feeder, batch, file_id):
        return []
    text = _text(feeder, batch, file_id, ended)
    size = await feeder.objects.put_stream(object_key(batch.account_id, file_id), text)
    expires_ms = at_ms + batch.spec["kept_s"] * 1000
    return [NewFile(file_id, f"{batch.id}_{word}.jsonl", Purpose.BATCH_OUTPUT, size, expires_ms)]


async def _begun(feeder: Feeder, batch: Batch, file_id: str) -> bool:
    verb = partial(files.begin_again, file_id=file_id, account_id=batch.account_id, now_ms=now_ms())
    return await feeder.database.write(verb)


async def _text(feeder: Feeder, batch: Batch, file_id: str, ended: RowState) -> AsyncIterator[bytes]:
    """Line by line.  50,000 large answers take longer to write than an upload is given: each page gives the file as long again."""
    after = -1
    query = partial(batch_results.of_state, batch_id=batch.id, state=ended)
    while page := await feeder.database.read(partial(query, after=after)):
        for each in page:
            yield await line_of(feeder.objects, batch, each) + b"\n"
        after = page[-1].row.number
        await _begun(feeder, batch, file_id)


def _fail(session: Session, batch: Batch, errors: list[dict[str, Any]]) -> None:
    batches.end(session, batch, BatchState.FAILED, "batch.failed", now_ms(), errors=errors)
