"""A verb whose commit's answer was lost runs again: what it had made is there once, as it was, and the verb says the same."""

from functools import partial

import pytest
from sqlalchemy import func, select, update

from models import batches, evals, files
from models.batches import NewBatch
from models.datasets import Item
from models.evals import NewEval, NewRun
from models.files import NewFile, Purpose
from models.idempotency import begin_once, store_once
from models.tables.batches import Batch, BatchKind, BatchState
from models.tables.evals import Eval, EvalItem, EvalRun
from models.tables.files import File, FileState
from tests.models.conftest import NOW

FILE, RUN = files.new_id(NOW), "evalrun_1"


def again(verb):
    """Both answers."""
    return verb(), verb()


def count(session, table):
    return session.scalar(select(func.count()).select_from(table))


@pytest.mark.parametrize("kind", BatchKind)
def test_a_batch_is_begun_once_and_what_came_of_it_meanwhile_stays(session, account, kind):
    begin = partial(batches.begin, session, NewBatch("batch_1", account, kind, {}, NOW))
    begin()
    session.execute(update(Batch).values(state=BatchState.IN_PROGRESS, total=3))
    begin()
    assert session.execute(select(Batch.state, Batch.total)).all() == [(BatchState.IN_PROGRESS, 3)]


@pytest.mark.parametrize("kind", BatchKind)
def test_so_is_one_with_a_key(session, account, kind):
    new = NewBatch("batch_1", account, kind, {}, NOW)
    assert again(partial(begin_once, session, new, "k", "digest")) == ("batch_1", "batch_1")
    assert count(session, Batch) == 1


def test_an_eval_and_a_run_are_made_once(session, account):
    new = NewEval("eval_1", account, "n", {"type": "custom"}, [], None, {}, NOW)
    run = NewRun(RUN, "eval_1", account, "r", None, {}, [], NOW)

    def make():
        evals.create(session, new)
        batches.begin(session, NewBatch(RUN, account, BatchKind.EVAL, {}, NOW))
        evals.start(session, run, [Item({"n": number}) for number in range(3)])

    again(make)
    assert [count(session, table) for table in (Eval, EvalRun, EvalItem)] == [1, 1, 3]


def test_an_upload_is_begun_and_stored_once(session, account):
    again(partial(files.begin, session, FILE, account, NOW))
    new = NewFile(FILE, "a.jsonl", Purpose.BATCH, 3, None)
    assert again(partial(files.store, session, new)) == (True, True)
    assert session.scalars(select(File.state)).all() == [FileState.STORED]


def test_so_is_one_with_a_key_of_its_own(session, account):
    files.begin(session, FILE, account, NOW)
    store = partial(store_once, session, NewFile(FILE, "a.jsonl", Purpose.BATCH, 3, None), account, "k", "digest", NOW)
    assert again(store) == (FILE, FILE)
