"""How do sub-accounts, what they used and what is left to spend look?  Cents may be fractions: a short answer costs far less than one."""

from typing import Literal

from models.lifecycle import JobState
from models.wire.shapes import JobId, Seconds, Shape

Period = Literal["month", "total"]


class SubAccount(Shape):
    id: str
    object: Literal["sub_account"]
    name: str
    external_ref: str | None
    default_tag: str | None
    rate_limit_rpm: int | None
    rate_limit_tpm: int | None
    max_parallel_requests: int | None
    allowed_models: list[str] | None
    spend_cap_cents: float | None
    spend_cap_period: Period
    spent_cents: float
    """In the cap's period."""
    status: Literal["active"]
    created_at: Seconds


class CreatedSubAccount(SubAccount):
    scoped_key: str
    """Shown this once."""


class DeletedSubAccount(Shape):
    id: str
    object: Literal["sub_account"]
    deleted: Literal[True]


class RotatedKey(Shape):
    id: str
    object: Literal["sub_account"]
    scoped_key: str
    previous_valid_for_s: int


class Used(Shape):
    label: str
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    total_tokens: int
    cost_cents: float
    cost: float
    """US dollars."""


class UsedByTag(Used):
    tag: str | None


class UsedBySubAccount(Used):
    id: str
    name: str
    external_ref: str | None
    closed: bool


class UsageByTag(Shape):
    object: Literal["list"]
    month: str
    data: list[UsedByTag]


class UsageBySubAccount(Shape):
    object: Literal["list"]
    month: str
    data: list[UsedBySubAccount]


class UsedByJob(Shape):
    id: JobId
    object: Literal["usage"]
    account_id: str
    tag: str | None
    model: str
    card: str
    state: JobState
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cost_cents: float
    cost: float
    created_at: Seconds


class RecentUsage(Shape):
    object: Literal["list"]
    data: list[UsedByJob]


class Balance(Shape):
    """Null where nothing ends."""

    object: Literal["balance"]
    currency: Literal["usd"]
    balance_cents: float | None
    """What is left of the credits."""
    credit_cents: float | None
    spent_this_month_cents: float
    spent_cents: float
    spend_cap_cents: float | None
    spend_cap_period: Period
    remaining_cents: float | None
    """What is left of whatever ends first."""
