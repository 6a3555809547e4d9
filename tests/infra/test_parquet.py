"""What was written as Parquet is read as the same records."""

import io

import pyarrow.parquet as pq

from infra import parquet
from infra.parquet import ParquetSheet
from tests.infra.conftest import read_parquet

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


def test_a_record_comes_back_as_it_was():
    records = [record(1), record(2, tools=[{"type": "function", "function": {"name": "f"}}])]
    assert read_parquet(written(records)) == records
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
    assert read_parquet(data) == [record(number) for number in range(50)]


def test_an_export_of_nothing_is_a_file():
    assert read_parquet(written()) == []
