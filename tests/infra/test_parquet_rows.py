"""What is in a Parquet file of anybody's is read, or refused: also what takes more memory than it says, and values Python has not."""

import datetime as dt
import io
import resource

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.parquet import ParquetSheet
from infra.parquet_rows import AT_ONCE, rows_in
from models.errors import InvalidRequest, TooLarge, Unavailable
from tests.infra.conftest import read_parquet, stored

SPOKEN = [{"role": "user", "content": "a"}]


def written(columns, **how):
    sink = io.BytesIO()
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), sink, **how)
    return sink.getvalue()


def repeated(rows, messages, text_bytes):
    """A file of little more than one message, which says it `rows` times `messages` times."""
    text = pa.DictionaryArray.from_arrays(pa.array([0] * rows * messages, pa.int32()), pa.array(["a" * text_bytes]))
    role = pa.array(["user"] * rows * messages).dictionary_encode()
    offsets = pa.array(range(0, (rows + 1) * messages, messages), pa.int32())
    spoken = pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays([role, text], ["role", "content"]))
    table = pa.table({"messages": spoken})
    return written(table, compression="zstd", store_schema=False, dictionary_pagesize_limit=1 << 30)


def test_a_data_set_of_others_is_read():
    data = written({"messages": [[{"role": "user", "content": "a", "name": None}]], "source": ["x"]})
    assert read_parquet(data) == [{"messages": SPOKEN}]


def test_what_lies_where_we_are_started_is_not_taken_for_the_reader(tmp_path, monkeypatch):
    (tmp_path / "infra").mkdir()
    (tmp_path / "infra" / "__init__.py").write_text("raise SystemExit('a stranger')")
    monkeypatch.chdir(tmp_path)
    assert read_parquet(written({"messages": [SPOKEN]})) == [{"messages": SPOKEN}]


@pytest.mark.parametrize("columns", [{"a": [1]}, {"messages": ["x"], "metadata": ["{"]}])
def test_other_columns_are_refused(columns):
    with pytest.raises(InvalidRequest):
        read_parquet(written(columns))


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1", written({"messages": [SPOKEN]})[:-9]])
def test_what_is_no_such_file_is_refused(data):
    with pytest.raises(InvalidRequest, match="Parquet"):
        read_parquet(data)


def odd(value, kind):
    return pa.array([value], pa.int64()).cast(kind)


NOT_PYTHONS = [
    pa.array([b"\xff"]).cast(pa.string(), safe=False),
    odd(1, pa.timestamp("ns")),
    odd(1, pa.duration("ns")),
    odd(1 << 60, pa.timestamp("us")),
]


@pytest.mark.parametrize("values", NOT_PYTHONS)
def test_a_value_that_python_has_not_is_refused_where_it_is_asked_for(values):
    assert read_parquet(written({"messages": [SPOKEN], "other": values})) == [{"messages": SPOKEN}]
    with pytest.raises(InvalidRequest):
        read_parquet(written({"messages": pa.ListArray.from_arrays(pa.array([0, 1]), values)}))


def test_a_date_is_no_message():
    with pytest.raises(InvalidRequest, match="row 1"):
        read_parquet(written({"messages": [[dt.date(2026, 1, 1)]]}))


def test_a_small_file_that_is_large_when_it_is_read_takes_nothing_of_this_process():
    rows, whole = repeated(30, 1, 60 << 20), repeated(1, 100, 16 << 20)
    assert len(rows) + len(whole) < 10_000
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TooLarge, match="row 1"):
        read_parquet(rows)
    with pytest.raises(InvalidRequest, match="memory"):
        read_parquet(whole)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 32 << 10


def test_a_record_has_at_most_so_many_bytes():
    data = written({"messages": [SPOKEN, [{"role": "user", "content": "a" * 200}]]})
    with stored(data) as file:
        rows = rows_in(file, 100)
        assert next(rows)[0] == 1
        with pytest.raises(TooLarge, match="row 2"):
            next(rows)


def test_few_are_read_at_once_and_one_that_is_left_makes_room():
    data = written({"messages": [SPOKEN] * 2})
    with stored(data) as file:
        readings = [rows_in(file, 100) for _ in range(AT_ONCE)]
        for reading in readings:
            next(reading)
        with pytest.raises(Unavailable):
            next(rows_in(file, 100))
        readings.pop().close()
        assert len(list(rows_in(file, 100))) == 2
        for reading in readings:
            reading.close()


def test_long_rows_are_read_as_they_were():
    sheet = ParquetSheet()
    told = {"conversation": {"id": "c", "title": "", "created_ms": 1, "updated_ms": 1}, "turns": [{"model": "m"}]}
    records = [
        {"messages": [{"role": "user", "content": "x" * (1 << 20)}], "metadata": {}, "tramontane": told}
        for _ in range(5)
    ]
    assert read_parquet(sheet.add(records) + sheet.end()) == records
