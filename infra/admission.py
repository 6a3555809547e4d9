"""May this caller's jobs begin?  Models, money, rate and number at once, by the account's limits and those of the one above it.

An account without limits is let through without a look at anything.  Without Redis the rates are not kept (a line in the log says
so): they protect others from haste, and an outage is no time to refuse everybody.  Money is never let through uncounted: there the
answer is Unavailable.  Who is refused because of jobs that may long have ended makes us look at their rows, and is then asked about
again; so what a process that died had not let go is found when it matters.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from redis.asyncio import Redis

from infra import rate_limiter
from infra.clock import now_ms
from infra.database import Database
from infra.rate_limiter import Kind, Refused, Stale, Told
from infra.redis import FAULTS
from models import usage
from models.accounts import Caller
from models.cards.card import catalogue
from models.errors import BudgetExceeded, InsufficientCredits, ModelNotAllowed, RateLimited, TramError, Unavailable
from models.handover import NewJob
from models.limits import MICROS_PER_USD, RETRY_MOST_S, Demand, Limits, demand, month_of, span

log = logging.getLogger(__name__)

Headers = dict[str, str]

_ROUNDS = 8
"""Readings of the books, or looks at doubted jobs, for one request; each makes progress, or somebody else does."""
_MONEY: dict[Kind, tuple[type[InsufficientCredits] | type[BudgetExceeded], str]] = {
    Kind.CREDITS: (InsufficientCredits, "the credits left"),
    Kind.BUDGET: (BudgetExceeded, "what is left of the spending cap"),
}
_PER_MINUTE = {Kind.REQUESTS: "requests_per_minute", Kind.TOKENS: "tokens_per_minute"}


async def admit(
    database: Database, redis: "Redis", caller: Caller, jobs: Sequence[NewJob], tell: Callable[[Headers], None]
) -> list[NewJob]:
    """The jobs as they are to be inserted, all or none.  Raises ModelNotAllowed, RateLimited, what money may say, Unavailable.

    `tell` hears what OpenAI's headers say of the rates, of a refusal too.
    """
    _allowed(caller, jobs)
    jobs = [replace(job, parent_id=caller.parent_id, tag=caller.tag) for job in jobs]
    limits = [each for each in caller.limits if each.counted]
    if not limits or not jobs:
        return jobs
    demands = [demand(job.id, catalogue().get(job.card), job.messages, job.parameters) for job in jobs]
    try:
        told = await _taken(database, redis, limits, demands)
    except FAULTS as error:
        if any(each.money for each in limits):
            raise Unavailable("what this account may spend cannot be counted at the moment") from error
        log.warning("Redis is away: the rate of account %s is not kept", caller.account_id)
        return jobs
    tell(_headers(limits, told))
    if told.refused:
        raise _refusal(limits, told.refused, demands)
    return [replace(job, held_micros=each.micros) for job, each in zip(jobs, demands, strict=True)]


async def give_back(redis: "Redis", caller: Caller, jobs: Sequence[NewJob]) -> None:
    """For jobs that were admitted and, for certain, not made.  What is not given back now is found when it stands in the way."""
    limits = [each.account_id for each in caller.limits if each.counted]
    if limits:
        try:
            await rate_limiter.give_back(redis, limits, [job.id for job in jobs])
        except FAULTS:
            log.warning("Redis is away: a place of account %s is freed later", caller.account_id)


def _allowed(caller: Caller, jobs: Sequence[NewJob]) -> None:
    for job in jobs:
        if not caller.may_use(job.card, job.model):
            raise ModelNotAllowed(f"this account may not use the model {job.model!r}", param="model")


async def _taken(database: Database, redis: "Redis", limits: Sequence[Limits], demands: Sequence[Demand]) -> Told:
    for left in reversed(range(_ROUNDS)):
        month = month_of(now_ms())
        told = await rate_limiter.take(redis, limits, demands, month, stale=left == 0)
        if told.stale:
            for each in told.stale:
                await _seed(database, redis, limits[each.account], each, month)
        elif not (told.doubted and await _cleared(database, redis, limits, told.doubted)):
            return told
    raise Unavailable("what this account may spend is being counted; try again")


async def _seed(database: Database, redis: "Redis", limits: Limits, stale: Stale, month: str) -> None:
    query = partial(usage.standing, account_id=limits.account_id, month=month, held=stale.held)
    found = await database.read(query)
    spent = (found.month_micros, found.total_micros)
    await rate_limiter.seed(redis, limits.account_id, month, stale.settled, spent, found.open)


async def _cleared(database: Database, redis: "Redis", limits: Sequence[Limits], doubted: Sequence[str]) -> bool:
    """Whether any of the jobs had ended, so that asking again may end otherwise."""
    ended, unbound = await database.read(partial(usage.ended, ids=doubted))
    for each in ended:
        await rate_limiter.settle(redis, each)
    if unbound:
        await rate_limiter.give_back(redis, [each.account_id for each in limits], unbound)
    return bool(ended or unbound)


def _refusal(limits: Sequence[Limits], refused: Sequence[Refused], demands: Sequence[Demand]) -> TramError:
    """Money first, since nobody can say how long to wait for it; else the longest wait."""
    if short := [each for each in refused if each.kind in _MONEY]:
        return _short(short, sum(each.micros for each in demands))
    longest = max(refused, key=lambda each: each.wait_ms)
    wait_s = min(longest.wait_ms / 1000, RETRY_MOST_S)
    return RateLimited(
        f"{_in_words(limits[longest.account], longest.kind)}; try again in {wait_s:.1f} s", retry_after_s=wait_s
    )


def _short(refused: Sequence[Refused], needed: int) -> TramError:
    kinds = {each.kind: each for each in refused}
    kind = next(each for each in _MONEY if each in kinds)
    make, words = _MONEY[kind]
    error = make(
        f"{words} (USD {max(0.0, kinds[kind].left / MICROS_PER_USD):.6f}, open jobs counted in full) cannot cover what "
        f"this may cost (USD {needed / MICROS_PER_USD:.6f}); a lower max_completion_tokens needs less"
    )
    error.bound = all(needed <= each.left + each.held for each in refused)
    return error


def _in_words(limits: Limits, kind: Kind) -> str:
    if kind is Kind.PARALLEL:
        return f"this account may have {limits.parallel} jobs open at once"
    return f"this account's rate is limited to {getattr(limits, _PER_MINUTE[kind]):,} {kind} per minute"


def _headers(limits: Sequence[Limits], told: Told) -> Headers:
    """OpenAI's six, of the tightest limit; nothing of a rate that is not limited."""
    found: Headers = {}
    for kind, name in _PER_MINUTE.items():
        known = [
            (limit - levels[kind.value], limit, levels[kind.value])
            for each, levels in zip(limits, told.levels, strict=True)
            if (limit := getattr(each, name)) is not None
        ]
        if known:
            left, limit, used = min(known)
            found |= {
                f"x-ratelimit-limit-{kind}": str(limit),
                f"x-ratelimit-remaining-{kind}": str(max(0, int(left + 1e-6))),
                f"x-ratelimit-reset-{kind}": span(used * 60_000 / limit),
            }
    return found
