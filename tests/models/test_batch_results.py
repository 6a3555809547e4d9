"""Are a batch's results read in the order in which rows ended, each once, and what was not to be stored let go of when a file holds it?"""

import pytest
from sqlalchemy import inspect

from models import batch_results, batches, files, jobs
from models.batches import NewBatch, NewRow
from models.errors import Conflict
from models.files import NewFile, Purpose
from models.handover import Ending
from models.lifecycle import JobState
from models.tables.batches import Batch, BatchKind, BatchState, RowState
from models.tables.jobs import Door
from tests.models.conftest import NOW, claimed, new_job, plan_of, row

NAME = "batch_1"


@pytest.fixture
def batch(session, account):
    batches.begin(session, NewBatch(NAME, account, BatchKind.FILE, {}, NOW))
    batches.add(session, NAME, [NewRow(number, {"messages": []}, name=f"r{number}") for number in range(10)])
    batches.started(session, NAME, NOW)
    return session.get_one(Batch, NAME)


def answered(session, account, *numbers, state=JobState.COMPLETED, **changes):
    made = {number: new_job(session, account, door=Door.BATCH, batch_id=NAME, **changes) for number in numbers}
    batches.feed(session, NAME, made)
    for job in made.values():
        claimed(session, job.id)
        jobs.finish(session, job.id, 1, Ending(state, NOW, result={"completion": {}}))
    batches.settle(session, NAME, numbers)
    return [job.id for job in made.values()]


def so_far(session, after=None, limit=100):
    return [each.row.number for each in batch_results.as_they_ended(session, NAME, after, limit)]


def test_they_are_read_as_they_ended_and_later_ones_come_behind(session, account, batch):
    answered(session, account, 7, 3)
    assert so_far(session) == [3, 7]
    answered(session, account, 1, 5)
    batches.refuse(session, NAME, {0: {"code": "x"}})
    assert so_far(session, after=7) == [1, 5, 0]
    assert so_far(session, after=3, limit=2) == [7, 1]
    batches.drop(session, NAME, {"code": "batch_cancelled"})
    assert so_far(session, after=0) == [2, 4, 6, 8, 9]
    assert sorted(so_far(session)) == list(range(10))
    session.expire_all()
    assert (batch.completed, batch.failed) == (4, 6)


def test_a_files_rows_are_read_in_its_order_with_their_jobs(session, account, batch):
    (third,) = answered(session, account, 3)
    answered(session, account, 1, 8)
    answered(session, account, 4, state=JobState.FAILED)
    done = batch_results.of_state(session, NAME, RowState.COMPLETED, -1)
    assert [each.row.number for each in done] == [1, 3, 8]
    assert done[1].job.id == third
    assert [each.row.number for each in batch_results.of_state(session, NAME, RowState.COMPLETED, 3)] == [8]
    assert [each.row.number for each in batch_results.of_state(session, NAME, RowState.FAILED, -1)] == [4]


def test_what_was_answered_is_not_read_by_who_counts(session, account, batch):
    """Five hundred rows at once: of long answers a gigabyte."""
    made = new_job(session, account, door=Door.BATCH, batch_id=NAME)
    batches.feed(session, NAME, {0: made})
    claimed(session, made.id)
    jobs.finish(session, made.id, 1, Ending(JobState.COMPLETED, NOW, result={"completion": {}}))
    session.expunge_all()
    (found,) = batches.ended(session, NAME)
    assert "result" in inspect(found.job).unloaded
    assert found.job.parameters is not None


def test_results_go_by_their_index(session, account, batch):
    answered(session, account, 1)
    assert "ix_batch_rows_ended" in plan_of(session, lambda s: batch_results.as_they_ended(s, NAME, 1, 10))


def test_what_is_not_to_be_stored_stays_until_the_file_holds_it(session, account, batch):
    (kept,), (gone,) = answered(session, account, 0), answered(session, account, 1, store=False)
    assert jobs.forget(session, NOW + 10**12) == []
    assert row(session, gone).result == {"completion": {}}
    files.begin(session, "file-a", account, NOW)
    batch_results.store(session, batch, [NewFile("file-a", "a", Purpose.BATCH_OUTPUT, 1, None)], NOW)
    jobs.forget(session, NOW)
    assert (row(session, gone).result, row(session, kept).result) == (None, {"completion": {}})


def test_a_file_that_was_given_up_is_not_told_as_stored(session, account, batch):
    files.begin(session, "file-a", account, NOW)
    files.give_up(session, "file-a", NOW)
    with pytest.raises(Conflict):
        batch_results.store(session, batch, [NewFile("file-a", "a", Purpose.BATCH_OUTPUT, 1, None)], NOW)


def test_one_that_was_cancelled_before_it_began_has_no_rows(session, account):
    batches.begin(session, NewBatch(NAME, account, BatchKind.FILE, {}, NOW))
    batches.add(session, NAME, [NewRow(0, None, error={"code": "x"})])
    assert batches.cancel(session, account, NAME, BatchKind.FILE, NOW) is BatchState.CANCELLING
    batches.clear(session, NAME)
    assert so_far(session) == []
