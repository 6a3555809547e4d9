"""A file is looked through before anything of it is brought; what it says when it is unpacked has a bound, too."""

import io
import tempfile
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from api.exchange import _look_through, _read
from models.errors import TooLarge

ROWS = 2_000
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
