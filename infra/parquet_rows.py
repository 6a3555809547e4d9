"""Which records are in a Parquet file that somebody brings?  Rows of our own export, or of anybody's with such columns.

What such a file takes to read stands nowhere in it that could be believed: a kilobyte may say the same text a thousand times.  So a process
of its own reads it, `python -m infra.parquet_rows`, which may have so much memory and time and no more, and is rid of with the reading.
It gives a line of JSON a row; a line that begins with `!` says why there are no more.
"""

import logging
import os
import resource
import subprocess
import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from threading import BoundedSemaphore
from typing import IO, Any, BinaryIO

import orjson

from models.errors import InvalidRequest, TooLarge, Unavailable

log = logging.getLogger(__name__)

MEMORY_BYTES = 1 << 30
"""A record of 64 MiB is held several times: as pages, as a column, as objects, as JSON; pyarrow itself takes 150 MiB."""
CPU_S = 600
"""A file of 512 MiB takes five minutes."""
AT_ONCE = 4
_PLACES = BoundedSemaphore(AT_ONCE)
_ROWS = 32
_BATCH_BYTES = 1 << 20
_READ_BYTES = 1 << 20
"""Of a column at a time, which is not read as a whole."""
_WANTED = ("messages", "conversations", "system", "tools", "metadata", "tramontane")
_FAULT = b"!"


def rows_in(file: BinaryIO, most_bytes: int) -> Generator[tuple[int, bytes], None, None]:
    """Each row as a record in JSON, with its number from 1.  Raises InvalidRequest for what is no such file, TooLarge, Unavailable."""
    with _reader(file) as (lines, process):
        number = 0
        while line := lines.readline(most_bytes + 2):
            if line.startswith(_FAULT):
                raise InvalidRequest(**orjson.loads(line[1:]))
            number += 1
            if len(line) > most_bytes + 1:
                raise TooLarge(f"row {number}: a record has at most {most_bytes} bytes", param=f"row {number}")
            yield number, line
        if ended := process.wait():
            log.warning("a Parquet file's reader ended with %d behind row %d", ended, number)
            raise _too_much(number)


@contextmanager
def _reader(file: BinaryIO) -> Iterator[tuple[IO[bytes], "subprocess.Popen[bytes]"]]:
    if not _PLACES.acquire(blocking=False):
        raise Unavailable(f"{AT_ONCE} Parquet files are being read already; try again in a while")
    try:
        file.seek(0)
        argv = (sys.executable, "-P", "-m", "infra.parquet_rows")  # -P: where we are started another `infra` may lie
        with subprocess.Popen(argv, stdin=file, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            try:
                yield process.stdout, process
            finally:
                process.kill()
    finally:
        _PLACES.release()


def _too_much(row: int) -> InvalidRequest:
    memory = f"{MEMORY_BYTES >> 20} MiB of memory or {CPU_S} s"
    return InvalidRequest(f"the file cannot be read from row {row + 1} on within {memory}", param=f"row {row + 1}")


def main() -> None:
    """What is read lies at descriptor 0, and can be sought in."""
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # the other ones take more from the system than they give
    arrow = import_module("pyarrow")
    arrow.set_cpu_count(1)
    arrow.set_io_thread_count(1)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    try:
        for record in _records():
            sys.stdout.buffer.write(record + b"\n")
        sys.stdout.buffer.flush()
        os._exit(0)  # all is said, and how pyarrow is taken down must not count
    except BrokenPipeError:  # nobody reads any more
        os._exit(0)
    except MemoryError:
        sys.exit(1)
    except InvalidRequest as error:
        _end(error)
    except (arrow.ArrowException, OSError, ValueError, OverflowError) as error:
        # The last two: text that is no UTF-8, a time to the nanosecond, a date of a million years hence.
        _end(InvalidRequest(f"not a Parquet file that can be read: {error}", code="invalid_json"))


def _end(error: InvalidRequest) -> None:
    told = {"message": error.message, "param": error.param, "code": error.own_code}
    sys.stdout.buffer.write(_FAULT + orjson.dumps(told) + b"\n")
    sys.stdout.buffer.flush()


def _records() -> Iterator[bytes]:
    with open(0, "rb") as file:
        sheet = import_module("pyarrow.parquet").ParquetFile(file, buffer_size=_READ_BYTES)
        columns = [name for name in _WANTED if name in sheet.schema_arrow.names]
        if not {"messages", "conversations"} & set(columns):
            raise InvalidRequest("the file has a column `messages`, or ShareGPT's `conversations`", param="messages")
        batches = sheet.iter_batches(batch_size=_rows(sheet.metadata), columns=columns, use_threads=False)
        rows = (row for batch in batches for row in batch.to_pylist())
        for number, row in enumerate(rows, 1):
            yield _record(row, number)


def _rows(metadata: Any) -> int:
    """At a time: few where they are long."""
    size: int = sum(metadata.row_group(n).total_byte_size for n in range(metadata.num_row_groups))
    number: int = metadata.num_rows
    return max(1, min(_ROWS, _BATCH_BYTES * number // max(1, size)))


def _record(row: Mapping[str, Any], number: int) -> bytes:
    try:
        record = {name: value for name, value in row.items() if value is not None}
        if isinstance(messages := record.get("messages"), list):
            record["messages"] = [_message(message) for message in messages]
        for name in ("tools", "metadata", "tramontane"):
            if isinstance(record.get(name), str):
                record[name] = orjson.loads(record[name])
        return orjson.dumps(record)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError, AttributeError, TypeError) as error:
        raise InvalidRequest(f"row {number}: {error}", param=f"row {number}", code="invalid_json") from None


def _message(row: Mapping[str, Any]) -> dict[str, Any]:
    """A null is no field: a column has one for every message."""
    rest = orjson.loads(row["rest"]) if row.get("rest") else {}
    told = {name: value for name, value in row.items() if name != "rest" and value is not None}
    if told.get("role") == "assistant":
        told.setdefault("content", None)
    return told | rest


if __name__ == "__main__":
    main()
