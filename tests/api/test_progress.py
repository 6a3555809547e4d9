"""Is a batch watched to its end, whatever happens to the database meanwhile?"""

from types import SimpleNamespace

import orjson
import pytest

from api import progress as module
from api.progress import progress
from models.errors import NotFound, Unavailable
from models.tables.batches import Batch, BatchKind, BatchState

MISSING = NotFound("there is none")


class Database:
    """Tells one thing after another."""

    def __init__(self, *told):
        self._told = list(told)

    async def read(self, _):
        told = self._told.pop(0)
        if isinstance(told, Exception):
            raise told
        return told


def batch(completed, ended_ms=None):
    state = BatchState.IN_PROGRESS if ended_ms is None else BatchState.COMPLETED
    counts = {"total": 2, "completed": completed, "failed": 0, "created_ms": 1, "ended_ms": ended_ms, "meta": {}}
    return Batch(id="batch_1", kind=BatchKind.FILE, state=state, **counts)


async def told(monkeypatch, *looks):
    monkeypatch.setattr(module, "LOOK_S", 0)
    answer = await progress(SimpleNamespace(database=Database(*looks)), None, MISSING)
    return [piece async for piece in answer.body_iterator]


def counts(pieces):
    found = [orjson.loads(piece[6:]) for piece in pieces if piece.startswith(b"data: {")]
    return [each["request_counts"]["completed"] for each in found]


async def test_each_change_is_told_once_and_then_the_end(monkeypatch):
    pieces = await told(monkeypatch, batch(0), batch(0), batch(1), batch(2, ended_ms=5))
    assert counts(pieces) == [0, 1, 2]
    assert pieces[-1] == b"data: [DONE]\n\n"


async def test_a_database_that_is_away_for_a_while_ends_nothing(monkeypatch):
    pieces = await told(monkeypatch, batch(0), Unavailable("away"), Unavailable("away"), batch(2, ended_ms=5))
    assert counts(pieces) == [0, 2]
    assert pieces.count(b": still here\n\n") == 2, "and the line stays open"
    assert pieces[-1] == b"data: [DONE]\n\n"


async def test_one_that_is_deleted_meanwhile_is_watched_no_longer(monkeypatch):
    assert (await told(monkeypatch, batch(0), None))[1:] == [b"data: [DONE]\n\n"]


async def test_one_that_was_never_there_is_no_stream(monkeypatch):
    with pytest.raises(NotFound):
        await told(monkeypatch, None)
