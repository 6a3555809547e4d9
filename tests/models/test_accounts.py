"""Keys are found by their digest and nothing else, can be revoked, and secrets change over without a gap."""

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError

from models import accounts, sub_accounts
from models.accounts import PREFIX, ROTATION_MS, SHORTEST_KEY, create_account, create_key
from models.errors import InvalidRequest, NotFound
from models.limits import Limits
from models.tables.access import Account, ApiKey
from models.webhooks import new_secret
from tests.models.conftest import NOW


def test_a_key_leads_to_its_account(session, account):
    key = create_key(session, account, "laptop", NOW)
    found = accounts.caller(session, key, NOW)
    assert found is not None
    assert found.account_id == account
    assert found.salt == session.get_one(Account, account).salt
    assert len(found.salt) == 32
    assert found.key_id == session.scalars(select(ApiKey.id)).one()


def test_a_key_cannot_be_guessed_and_is_not_stored(session, account):
    keys = {create_key(session, account, "k", NOW) for _ in range(20)}
    assert len(keys) == 20
    assert all(key.startswith(PREFIX) and len(key) == len(PREFIX) + 43 for key in keys)
    for row in session.scalars(select(ApiKey)):
        stored = [row.id, row.name, row.shown, row.digest]
        assert not any(key in value for key in keys for value in stored)


@pytest.mark.parametrize(
    "change", [lambda key: key[:-1], lambda key: key + "x", str.upper, lambda _: "", lambda _: "\0"]
)
def test_a_wrong_key_leads_nowhere(session, account, change):
    key = create_key(session, account, "laptop", NOW)
    assert accounts.caller(session, change(key), NOW) is None


def test_each_account_has_its_own_keys_salt_and_secret(session, account):
    other = create_account(session, "bob", NOW)
    mine, theirs = create_key(session, account, "k", NOW), create_key(session, other, "k", NOW)
    one, two = accounts.caller(session, mine, NOW), accounts.caller(session, theirs, NOW)
    assert (one.account_id, two.account_id) == (account, other)
    assert one.salt != two.salt
    assert accounts.signing_secrets(session, account, NOW) != accounts.signing_secrets(session, other, NOW)


def test_an_operator_may_choose_the_key_if_it_is_long_enough(session, account):
    chosen = "x" * SHORTEST_KEY
    assert create_key(session, account, "first", NOW, chosen) == chosen
    assert accounts.caller(session, chosen, NOW).account_id == account
    for short in ("", "x" * (SHORTEST_KEY - 1)):
        with pytest.raises(InvalidRequest) as caught:
            create_key(session, account, "first", NOW, short)
        assert caught.value.param == "TRAM_API_KEY"


@pytest.mark.parametrize(("chosen", "shown"), [(None, 14), ("x" * SHORTEST_KEY, SHORTEST_KEY // 2), ("y" * 40, 14)])
def test_what_is_shown_of_a_key_is_too_little_to_use_it(session, account, chosen, shown):
    key = create_key(session, account, "k", NOW, chosen)
    ((row, _),) = accounts.keys(session)
    assert row.shown == key[:shown]


def test_one_key_cannot_be_two_accounts(session, account):
    other = create_account(session, "bob", NOW)
    create_key(session, account, "first", NOW, "the same key twice")
    with pytest.raises(IntegrityError):
        create_key(session, other, "first", NOW, "the same key twice")


def test_a_revoked_key_leads_nowhere_and_is_revoked_once(session, account):
    key, kept = create_key(session, account, "lost", NOW), create_key(session, account, "kept", NOW)
    key_id = accounts.caller(session, key, NOW).key_id
    assert accounts.revoke_key(session, key_id, NOW + 1)
    assert accounts.caller(session, key, NOW + 1) is None
    assert not accounts.revoke_key(session, key_id, NOW + 2)
    assert session.get_one(ApiKey, key_id, populate_existing=True).revoked_ms == NOW + 1
    assert accounts.caller(session, kept, NOW) is not None
    assert not accounts.revoke_key(session, "key_unknown", NOW)


def test_every_key_is_listed_with_its_accounts_name(session, account):
    other = create_account(session, "bob", NOW)
    create_key(session, account, "one", NOW)
    create_key(session, other, "two", NOW)
    assert {(row.name, owner) for row, owner in accounts.keys(session)} == {("one", "ada"), ("two", "bob")}


def test_the_first_account_is_the_oldest(session):
    assert accounts.first_account(session) is None
    first = create_account(session, "first", NOW)
    assert accounts.first_account(session) == first
    create_account(session, "second", NOW)
    assert accounts.first_account(session) == min(session.scalars(select(Account.id)))
    assert session.scalar(select(func.count()).select_from(Account)) == 2


def test_an_account_is_found_by_its_name(session, account):
    assert accounts.account_named(session, "ada") == account
    assert accounts.account_named(session, "eve") is None


def test_during_a_rotation_both_secrets_sign_and_after_it_the_new_one(session, account):
    (old,) = accounts.signing_secrets(session, account, NOW)
    new = new_secret()
    for _ in range(2):  # the answer to the first commit may have been lost
        accounts.rotate_secret(session, account, new, NOW)
    assert accounts.signing_secrets(session, account, NOW) == [new, old]
    assert accounts.signing_secrets(session, account, NOW + ROTATION_MS - 1) == [new, old]
    assert accounts.signing_secrets(session, account, NOW + ROTATION_MS) == [new]


def test_a_second_rotation_drops_the_oldest_secret(session, account):
    first, second, third = new_secret(), new_secret(), new_secret()
    for secret in (first, second, third):
        accounts.rotate_secret(session, account, secret, NOW)
    session.expire_all()
    assert accounts.signing_secrets(session, account, NOW) == [third, second]


def test_a_caller_knows_its_limits_and_its_parents(session, account):
    free = create_key(session, account, "k", NOW)
    assert accounts.caller(session, free, NOW).limits == ()
    below, key = sub_accounts.create(session, account, "below", {"parallel": 3, "default_tag": "shop"}, NOW)
    found = accounts.caller(session, key, NOW)
    assert (found.parent_id, found.tag, found.limits) == (account, "shop", (Limits(below.id, parallel=3),))
    session.execute(update(Account).where(Account.id == account).values(credit_micros=5, models=["a"]))
    session.expire_all()
    above = Limits(account, credit_micros=5, models=("a",))
    assert accounts.caller(session, key, NOW).limits == (Limits(below.id, parallel=3), above)
    assert accounts.caller(session, free, NOW).limits == (above,)


def test_old_keys_live_on_for_the_grace_and_no_longer(session, account):
    old, lost = (create_key(session, account, name, NOW) for name in ("old", "lost"))
    accounts.revoke_key(session, accounts.caller(session, lost, NOW).key_id, NOW)
    new = accounts.rotate_keys(session, account, NOW, 1000)
    assert [accounts.caller(session, key, NOW + 999) is not None for key in (old, lost, new)] == [True, False, True]
    assert [accounts.caller(session, key, NOW + 1000) is not None for key in (old, lost, new)] == [False, False, True]
    newest = accounts.rotate_keys(session, account, NOW + 1, 10_000)
    assert accounts.caller(session, old, NOW + 1001) is None, "a second rotation lends no more time"
    assert accounts.caller(session, new, NOW + 10_000) is not None
    assert accounts.caller(session, newest, NOW + 20_000) is not None
    session.expire_all()
    key_id = accounts.caller(session, new, NOW + 2).key_id
    assert accounts.revoke_key(session, key_id, NOW + 2), "a key in its grace can be ended"
    assert accounts.caller(session, new, NOW + 2) is None


def test_a_sub_accounts_name_stands_for_nobody_at_the_top(session, account):
    sub_accounts.create(session, account, "default", {}, NOW)
    assert accounts.account_named(session, "default") is None
    assert accounts.called(session, "ada").id == account
    with pytest.raises(NotFound):
        accounts.called(session, "default")


def test_credits_add_up_and_belong_to_the_top(session, account):
    row = accounts.called(session, account)
    assert [accounts.grant(session, row, amount) for amount in (5, 7, -2)] == [5, 12, 10]
    below, _ = sub_accounts.create(session, account, "below", {}, NOW)
    with pytest.raises(InvalidRequest):
        accounts.grant(session, below, 5)
