"""Where are a suite and its rows?  Reads a suite's YAML and its data (JSONL, CSV, or rows in the suite itself).

Raises InvalidRequest that names the file, and the line of a row that cannot be read, or the place of what JSON has no word for.
"""

import csv
import math
from collections.abc import Iterator
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import yaml

from models.errors import InvalidRequest
from models.grading.suite import ROWS_MOST, Suite, suite_of


def read_suite(path: Path) -> tuple[Suite, list[dict[str, Any]]]:
    """The suite, and the rows it asks about."""
    try:
        body = yaml.safe_load(_text(path))
    except yaml.YAMLError as error:
        raise InvalidRequest(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    try:
        _check_json(body)
        suite = suite_of(body)
    except InvalidRequest as error:
        raise InvalidRequest(f"{path}: {error.message}", param=error.param) from None
    return suite, _rows(suite, path.parent)


def _rows(suite: Suite, folder: Path) -> list[dict[str, Any]]:
    dataset = suite.dataset
    if dataset.items is not None:
        found = dataset.items[: dataset.limit]
    else:
        path = folder / str(dataset.path)
        read = _csv(path) if path.suffix.lower() == ".csv" else _jsonl(path)
        found = list(islice(read, (dataset.limit or ROWS_MOST) + (dataset.limit is None)))
    if not 0 < len(found) <= ROWS_MOST:
        raise InvalidRequest(f"dataset: 1 to {ROWS_MOST:,} rows are taken", param="dataset")
    return found


def _jsonl(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_text(path).split("\n"), 1):  # `splitlines` also splits where JSON's texts go on
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise InvalidRequest(f"{path}, line {number}: not JSON: {error}") from None
        if not isinstance(row, dict):
            raise InvalidRequest(f"{path}, line {number}: a row is an object")
        yield row.get("item", row) if isinstance(row.get("item"), dict) and len(row) == 1 else row


def _csv(path: Path) -> Iterator[dict[str, Any]]:
    """Its first line names the columns; every value is a text."""
    rows = csv.DictReader(StringIO(_text(path), newline=""))
    try:
        for number, row in enumerate(rows, 2):
            if None in row or None in row.values():
                raise InvalidRequest(f"{path}, row {number}: it has not as many values as there are columns")
            yield dict(row)
    except csv.Error as error:
        raise InvalidRequest(f"{path}, line {rows.line_num + 1}: {error}; JSONL takes it") from None


def _text(path: Path) -> str:
    """Without the mark that Excel begins a file with."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path}: {error}") from None


def _check_json(value: Any, place: str = "") -> None:
    """YAML knows dates, sets, keys of every kind, and numbers that are none."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise InvalidRequest(f"{place or 'suite'}: the key {key!r} is no text; put it in quotes", param=place)
            _check_json(inner, f"{place}.{key}" if place else key)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _check_json(inner, f"{place}[{number}]")
    elif not _is_json(value):
        raise InvalidRequest(f"{place}: {value} is nothing that JSON has; a text stands in quotes", param=place)


def _is_json(value: Any) -> bool:
    if isinstance(value, int) and not isinstance(value, bool):
        return -(2**63) <= value < 2**64
    return value is None or isinstance(value, str | bool) or (isinstance(value, float) and math.isfinite(value))
