"""A file is seen when all of it is there, until it is deleted or expires; whatever else, its row comes due."""

from functools import partial

import pytest

from models import files
from models.accounts import create_account
from models.errors import Conflict
from models.files import NewFile, Purpose
from models.listings import Window, page
from models.tables.files import File, FileState
from tests.models.conftest import NOW, plan_of


def stored(session, account, *, now_ms=NOW, **changes):
    file_id = files.new_id(now_ms)
    files.begin(session, file_id, account, now_ms)
    facts = {"filename": "rows.jsonl", "purpose": Purpose.BATCH, "bytes": 3, "expires_ms": None}
    assert files.store(session, NewFile(file_id, **(facts | changes)))
    return file_id


def state(session, file_id):
    return session.get_one(File, file_id, populate_existing=True).state


def test_it_is_seen_when_all_of_it_is_there(session, account):
    file_id = files.new_id(NOW)
    files.begin(session, file_id, account, NOW)
    assert files.find(session, account, file_id, NOW) is None
    assert files.store(session, NewFile(file_id, "a.jsonl", Purpose.EVALS, 42, None))
    found = files.find(session, account, file_id, NOW)
    assert (found.filename, found.purpose, found.bytes, found.created_ms) == ("a.jsonl", "evals", 42, NOW)
    assert files.take_due(session, NOW + 10 * files.UPLOAD_MS) == []


def test_nobody_else_finds_or_deletes_it(session, account):
    other, file_id = create_account(session, "bob", NOW), stored(session, account)
    assert files.find(session, other, file_id, NOW) is None
    assert not files.delete(session, other, file_id, NOW)
    assert files.find(session, account, file_id, NOW) is not None


def test_a_deleted_one_is_gone_at_once_and_its_bytes_go_next(session, account):
    file_id = stored(session, account)
    assert files.delete(session, account, file_id, NOW)
    assert not files.delete(session, account, file_id, NOW)
    assert files.find(session, account, file_id, NOW) is None
    assert files.take_due(session, NOW) == [(file_id, f"files/{account}/{file_id}")]
    assert files.take_due(session, NOW) == [(file_id, f"files/{account}/{file_id}")], "until its bytes are gone"
    files.forget(session, [file_id])
    assert session.get(File, file_id) is None
    assert files.take_due(session, NOW) == []


def test_one_that_expires_is_not_shown_though_nobody_has_come_by(session, account):
    file_id = stored(session, account, expires_ms=NOW + 1000)
    assert files.find(session, account, file_id, NOW + 999) is not None
    assert files.take_due(session, NOW + 999) == []
    assert files.find(session, account, file_id, NOW + 1000) is None
    assert [name for name, _ in files.take_due(session, NOW + 1000)] == [file_id]


def test_an_upload_that_never_ends_is_given_up_and_cannot_end_any_more(session, account):
    file_id = files.new_id(NOW)
    files.begin(session, file_id, account, NOW)
    assert files.take_due(session, NOW + files.UPLOAD_MS - 1) == []
    assert [name for name, _ in files.take_due(session, NOW + files.UPLOAD_MS)] == [file_id]
    assert not files.store(session, NewFile(file_id, "a", Purpose.BATCH, 1, None))


def test_one_that_broke_off_is_swept_at_once_and_a_stored_one_is_not_given_up(session, account):
    broken, whole = files.new_id(NOW), stored(session, account)
    files.begin(session, broken, account, NOW)
    for file_id in (broken, whole):
        files.give_up(session, file_id, NOW)
    assert [name for name, _ in files.take_due(session, NOW)] == [broken]
    assert state(session, whole) is FileState.STORED


def test_one_that_is_made_here_is_begun_again_until_it_is_stored_and_not_while_it_is_taken_away(session, account):
    file_id = files.new_id(NOW)
    again = partial(files.begin_again, session, file_id, account)
    assert again(NOW)
    assert again(NOW + files.UPLOAD_MS - 1)
    assert files.take_due(session, NOW + files.UPLOAD_MS) == [], "it has as long again"
    assert files.take_due(session, NOW + 2 * files.UPLOAD_MS) != []
    with pytest.raises(Conflict):
        again(NOW + 2 * files.UPLOAD_MS)
    files.forget(session, [file_id])
    assert again(NOW + 2 * files.UPLOAD_MS)
    assert files.store(session, NewFile(file_id, "a", Purpose.BATCH_OUTPUT, 1, None))
    assert not again(NOW + 2 * files.UPLOAD_MS)


def test_only_what_was_taken_is_forgotten(session, account):
    file_id = stored(session, account)
    files.forget(session, [file_id])
    assert files.find(session, account, file_id, NOW) is not None


def test_lists_and_sweeps_go_by_their_indexes(session, account):
    for number in range(3):
        stored(session, account, now_ms=NOW + number)
    window = Window()
    listed = plan_of(session, lambda s: page(s, File, account, window, *files.shown(NOW)))
    assert "ix_files_list" in listed
    by_purpose = plan_of(session, lambda s: page(s, File, account, window, File.purpose == "batch"))
    assert "ix_files_list_purpose" in by_purpose
    due = plan_of(session, lambda s: s.query(File.id).filter(File.due_ms <= NOW).order_by(File.due_ms).all())
    assert "ix_files_due" in due
