"""How do records become a Parquet file?  Row group by row group, in the memory of one.

A row is a conversation's path: columns that others can read (messages with role and text, times, title, model) and, as JSON, what
makes the record whole again; `infra.parquet_rows` reads it.  pyarrow is imported when it is needed: it takes 60 MB, which no other
work of a process should.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any

import orjson

ROW_GROUP_BYTES = 1 << 20
"""Of records as JSON; a reader holds a row group or two."""
_SHOWN = {"role", "content"}


@cache
def _schema() -> Any:
    arrow = import_module("pyarrow")
    text, milliseconds = arrow.string(), arrow.timestamp("ms", tz="UTC")
    message = arrow.struct([("role", text), ("content", text), ("rest", text)])
    columns = {"conversation_id": text, "title": text, "model": text, "created_at": milliseconds}
    columns |= {"updated_at": milliseconds, "messages": arrow.list_(message)}
    return arrow.schema([*columns.items(), *((name, text) for name in ("tools", "metadata", "tramontane"))])


class ParquetSheet:
    """Takes records and gives the file's bytes as they come about."""

    content_type = "application/vnd.apache.parquet"

    def __init__(self) -> None:
        self._tray = _Tray()
        parquet = import_module("pyarrow.parquet")
        self._writer = parquet.ParquetWriter(self._tray, _schema(), compression="zstd")
        self._rows: list[dict[str, Any]] = []
        self._held_bytes = 0

    def add(self, records: Sequence[Mapping[str, Any]]) -> bytes:
        for record in records:
            self._rows.append(_row(record))
            self._held_bytes += len(orjson.dumps(record))
            if self._held_bytes >= ROW_GROUP_BYTES:
                self._write()
        return self._tray.taken()

    def end(self) -> bytes:
        self._write()
        self._writer.close()
        return self._tray.taken()

    def _write(self) -> None:
        if self._rows:
            self._writer.write_table(import_module("pyarrow").Table.from_pylist(self._rows, schema=_schema()))
            self._rows, self._held_bytes = [], 0


class _Tray:
    """A file to whoever writes; what lies in it can be taken away."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._written = 0

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        self._written += len(self._parts[-1])
        return len(self._parts[-1])

    def tell(self) -> int:
        return self._written

    def flush(self) -> None: ...

    def close(self) -> None: ...

    def taken(self) -> bytes:
        taken, self._parts = b"".join(self._parts), []
        return taken


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    told = record["tramontane"]
    conversation = told["conversation"]
    return {
        "conversation_id": conversation["id"],
        "title": conversation["title"],
        "model": told["turns"][-1]["model"],
        "created_at": conversation["created_ms"],
        "updated_at": conversation["updated_ms"],
        "messages": [_shown(message) for message in record["messages"]],
        "tools": _json(record.get("tools")),
        "metadata": _json(record["metadata"]),
        "tramontane": _json(told),
    }


def _shown(message: Mapping[str, Any]) -> dict[str, Any]:
    """`content` is what a reader of the column looks for; where that is no text, or there is more, `rest` has it."""
    content = message.get("content")
    rest = {name: value for name, value in message.items() if name not in _SHOWN}
    if isinstance(content, list):
        rest["content"] = content
        content = "".join(part.get("text", "") for part in content)
    return {"role": message["role"], "content": content, "rest": _json(rest) if rest else None}


def _json(value: Any) -> str | None:
    return None if value is None else orjson.dumps(value).decode()
