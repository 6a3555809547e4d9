"""What is left out stays, null takes away, and money is told in cents and dollars without losing a micro-dollar."""

import pytest
from pydantic import ValidationError

from models.tables.access import Account
from models.tables.usage import Usage
from models.usage import Summed
from models.wire.accounts import (
    GRACE_MOST_S,
    NewSubAccount,
    Rotation,
    SubAccountUpdate,
    balance_view,
    cap_of,
    sub_account_view,
    summed_view,
    usage_view,
)


def account(**columns):
    return Account(id="acct_1", name="shop", created_ms=1_800_000_000_500, **columns)


@pytest.mark.parametrize(
    ("told", "columns"),
    [
        ({}, {}),
        ({"name": "new"}, {"name": "new"}),
        ({"rate_limit_rpm": 5, "rate_limit_tpm": None}, {"requests_per_minute": 5, "tokens_per_minute": None}),
        ({"allowed_models": ["a"], "default_tag": "t"}, {"models": ["a"], "default_tag": "t"}),
        ({"spend_cap_cents": 7}, {"month_cap_micros": None, "total_cap_micros": 70_000}),
        ({"spend_cap_cents": None}, {"month_cap_micros": None, "total_cap_micros": None}),
        ({"spend_cap_period": "month"}, {"month_cap_micros": 50_000, "total_cap_micros": None}),
        ({"spend_cap_cents": 0, "spend_cap_period": "month"}, {"month_cap_micros": 0, "total_cap_micros": None}),
    ],
)
def test_only_what_was_told_changes(told, columns):
    assert SubAccountUpdate(**told).columns(account(total_cap_micros=50_000)) == columns


def test_a_new_cap_is_a_months():
    assert NewSubAccount(name="x", spend_cap_cents=3).columns() == {
        "name": "x",
        "month_cap_micros": 30_000,
        "total_cap_micros": None,
    }


@pytest.mark.parametrize(
    "told",
    [
        {"name": None},
        {"name": "x" * 201},
        {"rate_limit_rpm": 0},
        {"rate_limit_rpm": 1.5},
        {"rate_limit_tpm": True},
        {"max_parallel_requests": "3"},
        {"spend_cap_cents": -1},
        {"spend_cap_period": "day"},
        {"default_tag": ""},
        {"default_tag": "é"},
        {"default_tag": "a\nb"},
        {"allowed_models": []},
        {"credit_micros": 1},
    ],
)
def test_what_makes_no_sense_is_refused(told):
    with pytest.raises(ValidationError):
        SubAccountUpdate(**told)


@pytest.mark.parametrize("seconds", [-1, GRACE_MOST_S + 1, "60", None])
def test_a_grace_is_some_seconds(seconds):
    with pytest.raises(ValidationError):
        Rotation(grace_period=seconds)


def test_a_view_shows_the_cap_and_what_was_spent_in_its_period():
    seen = sub_account_view(account(month_cap_micros=50_000), (12_345, 99_999))
    assert (seen["spend_cap_cents"], seen["spend_cap_period"], seen["spent_cents"]) == (5, "month", 1.2345)
    seen = sub_account_view(account(total_cap_micros=50_000, models=["a"]), (12_345, 20_000))
    assert (seen["spend_cap_period"], seen["spent_cents"], seen["allowed_models"]) == ("total", 2, ["a"])
    assert cap_of(account()) == (None, "month")
    assert (seen["id"], seen["object"], seen["created_at"]) == ("acct_1", "sub_account", 1_800_000_000)


@pytest.mark.parametrize(
    ("columns", "balance", "remaining"),
    [
        ({}, None, None),
        ({"credit_micros": 100_000}, 7, 7),
        ({"credit_micros": 10_000}, -2, 0),
        ({"month_cap_micros": 40_000}, None, 2),
        ({"total_cap_micros": 40_000, "credit_micros": 100_000}, 7, 1),
        ({"total_cap_micros": 400_000, "month_cap_micros": 20_000}, None, 0),
    ],
)
def test_what_remains_is_what_ends_first(columns, balance, remaining):
    seen = balance_view(account(**columns), (20_000, 30_000))
    assert (seen["balance_cents"], seen["remaining_cents"]) == (balance, remaining)
    assert (seen["spent_this_month_cents"], seen["spent_cents"], seen["currency"]) == (2, 3, "usd")


def test_rows_and_sums_tell_the_same_money():
    used = {"prompt_tokens": 10, "cached_tokens": 3, "completion_tokens": 5, "cost_micros": 6}
    names = {"job_id": "job_1", "account_id": "acct_1", "tag": "", "model": "m", "card": "c", "state": "completed"}
    row, total = usage_view(Usage(**used, **names, at_ms=1_800_000_000_500)), summed_view(Summed("x", 1, **used))
    for seen in (row, total):
        assert (seen["cost"], seen["cost_cents"], seen["cached_tokens"]) == (6e-6, 6e-4, 3)
    assert (row["id"], row["tag"], row["created_at"], total["total_tokens"]) == ("job_1", None, 1_800_000_000, 15)
