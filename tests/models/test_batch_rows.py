"""Are a batch's rows made by one feeder at a time, and all of them?  On both databases."""

from functools import partial

import pytest

from models import batch_rows, batch_turns, batches
from models.batches import NewBatch, NewRow
from models.errors import Conflict
from models.tables.batches import Batch, BatchKind, BatchState
from tests.models.conftest import NOW

NAME = "batch_1"
ROW = NewRow(0, {"messages": []})
STEPS = (
    partial(batch_rows.clear, batch_id=NAME),
    partial(batch_rows.add, batch_id=NAME, rows=[ROW]),
    partial(batch_rows.start, batch_id=NAME, rows=0, now_ms=NOW),
)


@pytest.fixture
def batch(session, account):
    batches.begin(session, NewBatch(NAME, account, BatchKind.FILE, {}, NOW))
    batch_turns.take(session, "me", NOW)
    return session.get_one(Batch, NAME)


@pytest.mark.parametrize("step", STEPS)
def test_only_its_holder_makes_them(session, batch, step):
    with pytest.raises(Conflict):
        step(session, holder="you")
    step(session, holder="me")


@pytest.mark.parametrize("step", STEPS)
def test_nobody_does_once_it_is_cancelled(session, account, batch, step):
    batches.cancel(session, account, NAME, BatchKind.FILE, NOW)
    with pytest.raises(Conflict):
        step(session, holder="me")


def test_it_does_not_start_with_rows_missing_or_too_many(session, batch):
    batch_rows.add(session, NAME, "me", [ROW])
    for rows in (0, 2):
        with pytest.raises(Conflict):
            batch_rows.start(session, NAME, "me", rows, NOW)
    batch_rows.start(session, NAME, "me", 1, NOW)
    session.refresh(batch)
    assert (batch.state, batch.total) == (BatchState.IN_PROGRESS, 1)


def test_what_another_has_left_goes_before_they_are_made_anew(session, batch):
    batch_rows.add(session, NAME, "me", [ROW])
    batch_turns.take(session, "you", NOW + batch_turns.LEASE_MS + 1)
    batch_rows.clear(session, NAME, "you")
    session.refresh(batch)
    assert (batch.holder, batch.total) == ("you", 0)
