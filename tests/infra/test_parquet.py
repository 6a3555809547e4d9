"""What was written as Parquet is read as the same records, and what is no such file is refused."""

import io

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra import parquet
from infra.parquet import ParquetSheet, rows_in
from models.errors import InvalidRequest

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
MESSAGES = [
    {"role": "system", "content": "s", "name": "n"},
    {
        "role": "user",
        "content": [{"type": "text", "text": "see "}, {"type": "image_url", "image_url": {"url": "data:"}}],
    },
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "content": "", "tool_call_id": "c"},
    {"role": "assistant", "content": "ä"},
]


def record(number=0, **more):
    conversation = {
        "id": f"conv_{number}",
        "name": None,
        "title": "t",
        "created_ms": 1_800_000_000_123,
        "updated_ms": 1,
    }
    told = {"conversation": conversation, "turns": [{"message": 4, "model": "m"}]}
    return {"messages": MESSAGES, "metadata": {"z": "1", "a": "2"}, "tramontane": told} | more


def written(*portions):
    sheet = ParquetSheet()
    return b"".join([*(sheet.add(portion) for portion in portions), sheet.end()])


def read(data):
    return [orjson.loads(row) for _, row in rows_in(io.BytesIO(data))]


def test_a_record_comes_back_as_it_was():
    records = [record(1), record(2, tools=[{"type": "function", "function": {"name": "f"}}])]
    assert read(written(records)) == records
    table = pq.read_table(io.BytesIO(written(records)))
    row = table.to_pylist()[0]
    assert (row["model"], row["messages"][1]["content"], row["created_at"].year) == ("m", "see ", 2027)


def test_row_groups_are_sent_as_they_fill(monkeypatch):
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 4000)
    sheet = ParquetSheet()
    sent = [*(sheet.add([record(number)]) for number in range(50)), sheet.end()]
    assert sum(map(bool, sent)) > 5
    data = b"".join(sent)
    assert pq.ParquetFile(io.BytesIO(data)).metadata.num_row_groups > 5
    assert read(data) == [record(number) for number in range(50)]


def test_an_export_of_nothing_is_a_file():
    assert read(written()) == []


def test_a_data_set_of_others_is_read():
    table = pa.table({"messages": [[{"role": "user", "content": "a", "name": None}]], "source": ["x"]})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    assert read(sink.getvalue()) == [{"messages": [{"role": "user", "content": "a"}]}]


@pytest.mark.parametrize("columns", [{"a": [1]}, {"messages": ["x"], "metadata": ["{"]}])
def test_other_columns_are_refused(columns):
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    with pytest.raises(InvalidRequest):
        read(sink.getvalue())


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1", written([record()])[:-9]])
def test_what_is_no_such_file_is_refused(data):
    with pytest.raises(InvalidRequest, match="Parquet"):
        read(data)


def test_a_row_group_beyond_all_bounds_is_refused(monkeypatch):
    monkeypatch.setattr(parquet, "_ROW_GROUP_MOST_BYTES", 10)
    with pytest.raises(InvalidRequest, match="row group"):
        read(written([record()]))
