"""What may be said of a sub-account, and how do it and its usage look?  AIGateway's field names where it has one.

Its command line shows rows by `label`, `requests` and `cost_cents`, and a new key as `scoped_key`.  Cents may be fractions: a short
answer costs far less than one.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.limits import MICROS_PER_CENT, MICROS_PER_USD
from models.tables.access import Account
from models.tables.usage import Usage
from models.usage import Summed

TAG = re.compile(r"[\x20-\x7e]{1,100}")
GRACE_MOST_S = 30 * 86_400
"""A key that overlaps its successor for longer was not replaced."""

Limit = Annotated[int, Field(ge=1, le=1_000_000_000)]
Cents = Annotated[int, Field(ge=0, le=1_000_000_000)]
Reference = Annotated[str, Field(max_length=200)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
_COLUMNS = {
    "name": "name",
    "external_ref": "external_ref",
    "default_tag": "default_tag",
    "rate_limit_rpm": "requests_per_minute",
    "rate_limit_tpm": "tokens_per_minute",
    "max_parallel_requests": "parallel",
    "allowed_models": "models",
}


class SubAccountUpdate(BaseModel):
    """What is left out stays, null takes a limit away."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Name | None = None
    external_ref: Reference | None = None
    default_tag: Annotated[str, Field(pattern=f"^{TAG.pattern}$")] | None = None
    rate_limit_rpm: Limit | None = None
    rate_limit_tpm: Limit | None = None
    max_parallel_requests: Limit | None = None
    allowed_models: Annotated[list[Reference], Field(min_length=1, max_length=100)] | None = None
    spend_cap_cents: Cents | None = None
    spend_cap_period: Literal["month", "total"] | None = None

    @model_validator(mode="after")
    def _keeps_a_name(self) -> "SubAccountUpdate":
        if "name" in self.model_fields_set and self.name is None:
            raise ValueError("name: an account needs one")
        return self

    def columns(self, account: Account | None = None) -> dict[str, Any]:
        """What changes in the row; `account` as it was."""
        told = {column: getattr(self, name) for name, column in _COLUMNS.items() if name in self.model_fields_set}
        return told | self._cap(account)

    def _cap(self, account: Account | None) -> dict[str, int | None]:
        if not self.model_fields_set & {"spend_cap_cents", "spend_cap_period"}:
            return {}
        cap, period = (None, "month") if account is None else cap_of(account)
        if "spend_cap_cents" in self.model_fields_set:
            cap = None if self.spend_cap_cents is None else self.spend_cap_cents * MICROS_PER_CENT
        period = self.spend_cap_period or period
        return {f"{each}_cap_micros": cap if each == period else None for each in ("month", "total")}


class NewSubAccount(SubAccountUpdate):
    name: Name


class Rotation(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    grace_period: Annotated[int, Field(ge=0, le=GRACE_MOST_S)] = 0
    """Seconds for which the keys that there are stay good."""


def cap_of(account: Account) -> tuple[int | None, str]:
    """Micro-dollars, and of which period."""
    if account.total_cap_micros is not None:
        return account.total_cap_micros, "total"
    return account.month_cap_micros, "month"


def sub_account_view(account: Account, spent: tuple[int, int]) -> dict[str, Any]:
    """`spent` is micro-dollars this month and ever."""
    cap, period = cap_of(account)
    return {
        "id": account.id,
        "object": "sub_account",
        **{name: getattr(account, column) for name, column in _COLUMNS.items()},
        "spend_cap_cents": _cents(cap),
        "spend_cap_period": period,
        "spent_cents": _cents(spent[period == "total"]),
        "status": "active",
        "created_at": account.created_ms // 1000,
    }


def balance_view(account: Account, spent: tuple[int, int]) -> dict[str, Any]:
    """`balance_cents` is what is left of the credits, `remaining_cents` of whatever ends first; null where nothing ends."""
    cap, period = cap_of(account)
    balance = None if account.credit_micros is None else account.credit_micros - spent[1]
    caps = (
        (account.month_cap_micros, spent[0]),
        (account.total_cap_micros, spent[1]),
        (account.credit_micros, spent[1]),
    )
    left = [limit - used for limit, used in caps if limit is not None]
    return {
        "object": "balance",
        "currency": "usd",
        "balance_cents": _cents(balance),
        "credit_cents": _cents(account.credit_micros),
        "spent_this_month_cents": _cents(spent[0]),
        "spent_cents": _cents(spent[1]),
        "spend_cap_cents": _cents(cap),
        "spend_cap_period": period,
        "remaining_cents": _cents(max(0, min(left))) if left else None,
    }


def summed_view(row: Summed) -> dict[str, Any]:
    return {
        "label": row.label,
        "requests": row.requests,
        "prompt_tokens": row.prompt_tokens,
        "cached_tokens": row.cached_tokens,
        "completion_tokens": row.completion_tokens,
        "total_tokens": row.prompt_tokens + row.completion_tokens,
        "cost_cents": _cents(row.cost_micros),
        "cost": dollars(row.cost_micros),
    }


def usage_view(row: Usage) -> dict[str, Any]:
    return {
        "id": row.job_id,
        "object": "usage",
        "account_id": row.account_id,
        "tag": row.tag or None,
        "model": row.model,
        "card": row.card,
        "state": row.state,
        "prompt_tokens": row.prompt_tokens,
        "cached_tokens": row.cached_tokens,
        "completion_tokens": row.completion_tokens,
        "cost_cents": _cents(row.cost_micros),
        "cost": dollars(row.cost_micros),
        "created_at": row.at_ms // 1000,
    }


def dollars(micros: int) -> float:
    return micros / MICROS_PER_USD


def _cents(micros: int | None) -> float | None:
    if micros is None:
        return None
    return micros // MICROS_PER_CENT if micros % MICROS_PER_CENT == 0 else micros / MICROS_PER_CENT
