"""A sub-account is its parent's alone, and closed ones are gone for all but the books."""

from sqlalchemy import select

from models import accounts, batches, sub_accounts
from models.accounts import create_account
from models.batches import NewBatch
from models.tables.access import Account
from models.tables.batches import Batch, BatchKind
from tests.models.conftest import NOW


def test_a_sub_account_has_a_key_a_salt_and_limits_of_its_own(session, account):
    made, key = sub_accounts.create(session, account, "shop", {"parallel": 2, "external_ref": "42"}, NOW)
    caller = accounts.caller(session, key, NOW)
    assert (caller.account_id, caller.parent_id) == (made.id, account)
    assert caller.salt != session.get_one(Account, account).salt
    assert (made.name, made.parallel, made.external_ref, made.parent_id) == ("shop", 2, "42", account)


def test_they_are_listed_oldest_first_and_page_by_page(session, account):
    ids = [sub_accounts.create(session, account, f"s{n}", {}, NOW)[0].id for n in range(5)]
    found = [each.id for each in sub_accounts.listed(session, account, None, 10)]
    assert found == sorted(ids)
    assert [each.id for each in sub_accounts.listed(session, account, found[1], 2)] == found[2:4]


def test_nobody_else_finds_changes_rotates_or_closes_it(session, account):
    other = create_account(session, "bob", NOW)
    made, key = sub_accounts.create(session, account, "shop", {}, NOW)
    for owner, name in ((other, made.id), (account, account), (account, other), (made.id, made.id)):
        assert sub_accounts.find(session, owner, name) is None
        assert sub_accounts.change(session, owner, name, {"name": "mine"}) is None
        assert sub_accounts.rotate(session, owner, name, NOW, 0) is None
        assert not sub_accounts.close(session, owner, name, NOW)
    assert sub_accounts.listed(session, other, None, 10) == []
    assert accounts.caller(session, key, NOW).account_id == made.id


def test_a_change_changes_what_it_names(session, account):
    made, _ = sub_accounts.create(session, account, "shop", {"parallel": 2, "external_ref": "42"}, NOW)
    changed = sub_accounts.change(session, account, made.id, {"parallel": None, "name": "new"})
    session.expire_all()
    assert (changed.name, changed.parallel, changed.external_ref) == ("new", None, "42")


def test_a_closed_one_is_gone_and_its_keys_are_void(session, account):
    made, key = sub_accounts.create(session, account, "shop", {}, NOW)
    assert sub_accounts.close(session, account, made.id, NOW)
    session.expire_all()
    assert accounts.caller(session, key, NOW) is None
    assert sub_accounts.find(session, account, made.id) is None
    assert sub_accounts.listed(session, account, None, 10) == []
    assert not sub_accounts.close(session, account, made.id, NOW + 1)
    assert sub_accounts.close(session, account, made.id, NOW), "a repetition of what closed it"
    assert session.get_one(Account, made.id).closed_ms == NOW


def test_batches_of_a_closed_one_are_cancelled(session, account):
    """They would become jobs for up to a week, at its parent's cost, and nobody's key could cancel them."""
    made, _ = sub_accounts.create(session, account, "shop", {}, NOW)
    for kind in BatchKind:
        batches.begin(session, NewBatch(f"new_{kind}", made.id, kind, {}, NOW))
        batches.begin(session, NewBatch(f"fed_{kind}", made.id, kind, {}, NOW))
        batches.started(session, f"fed_{kind}", NOW)
    batches.begin(session, NewBatch("written", made.id, BatchKind.FILE, {}, NOW))
    batches.started(session, "written", NOW)
    batches.finalize(session, "written", NOW)
    batches.begin(session, NewBatch("parent_s", account, BatchKind.FILE, {}, NOW))
    assert sub_accounts.close(session, account, made.id, NOW + 1)
    session.expire_all()
    found = {each.id: (each.state, each.cancelling_ms) for each in session.scalars(select(Batch))}
    assert found.pop("parent_s") == ("validating", None)
    assert set(found.values()) == {("cancelling", NOW + 1)}


def test_keys_of_those_below_a_closed_account_are_void(session, account):
    _, key = sub_accounts.create(session, account, "shop", {}, NOW)
    session.get_one(Account, account).closed_ms = NOW
    session.flush()
    assert accounts.caller(session, key, NOW) is None
