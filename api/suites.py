"""Where are a suite and its rows?  Reads a suite's YAML and its data (JSONL, CSV, or rows in the suite itself).

Raises InvalidRequest that names the file, and the line of a row that cannot be read.
"""

import csv
from collections.abc import Iterator
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
    for number, line in enumerate(_text(path).splitlines(), 1):
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
    for number, row in enumerate(csv.DictReader(_text(path).splitlines(keepends=True)), 2):
        if None in row or None in row.values():
            raise InvalidRequest(f"{path}, row {number}: it has not as many values as there are columns")
        yield dict(row)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path}: {error}") from None
