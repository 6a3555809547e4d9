"""Admission against a real Redis and both databases: what was lost is found again, repeats cost nothing, money is never guessed."""

import asyncio
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest

from infra import admission
from infra.clock import now_ms
from infra.rate_limiter import let_go
from infra.redis import ACCOUNT, client
from models import accounts, ids, jobs, sub_accounts, usage
from models.accounts import Caller
from models.errors import BudgetExceeded, InsufficientCredits, ModelNotAllowed, RateLimited, Unavailable
from models.handover import Ending, NewJob
from models.lifecycle import JobState
from models.limits import month_of
from models.prefix import chain
from models.tables.access import Account
from models.tables.jobs import Door

HELLO = [{"role": "user", "content": "hello"}]
TOKENS = 1000
ABOUT_MICROS = 1000 * 0.55 + 1100 * 0.35
"""What is held for one job here, nearly."""


@pytest.fixture
async def redis(redis_url):
    connected = client(redis_url)
    await connected.flushall()
    yield connected
    await connected.aclose()


@pytest.fixture
async def state(database, redis):
    return SimpleNamespace(database=database, redis=redis, headers={})


@pytest.fixture
async def replica(database, redis_url):
    """Another API process."""
    connected = client(redis_url)
    yield SimpleNamespace(database=database, redis=connected, headers={})
    await connected.aclose()


async def admit(state, who, jobs):
    return await admission.admit(state.database, state.redis, who, jobs, state.headers.update)


async def caller(state, *, above=None, **limits):
    """Of a new account; with `above`, of one below an account with those limits."""

    def verb(session):
        account = accounts.create_account(session, "ada", 1)
        columns = limits if above is None else above
        for name, value in columns.items():
            setattr(session.get_one(Account, account), name, value)
        session.flush()
        if above is None:
            return accounts.create_key(session, account, "k", 1)
        return sub_accounts.create(session, account, "below", limits, 1)[1]

    key = await state.database.write(verb)
    return await state.database.read(partial(accounts.caller, key=key, now_ms=now_ms()))


def new(who: Caller, **changes):
    facts = {
        "id": ids.new("job"),
        "account_id": who.account_id,
        "door": Door.JOB,
        "model": "tram-demo",
        "card": "tram-demo",
        "queue": "chat.tram-demo",
        "created_ms": now_ms(),
        "parameters": {"max_completion_tokens": TOKENS},
        "messages": HELLO,
        "chain": chain(who.salt, HELLO),
    }
    return NewJob(**facts | changes)


async def made(state, who, **changes):
    """Admitted and inserted."""
    (job,) = await admit(state, who, [new(who, **changes)])
    await state.database.write(partial(jobs.submit, jobs=[job]))
    return job


async def ends(state, job, *, tells=True, **used):
    """Its worker writes the end, and tells Redis unless it dies in between."""

    def verb(session):
        jobs.claim(session, job.id, "w", now_ms())
        return jobs.finish(session, job.id, 1, Ending(JobState.COMPLETED, now_ms(), **used))

    assert await state.database.write(verb)
    if tells:
        (settled,), _ = await state.database.read(partial(usage.ended, ids=[job.id]))
        await let_go(state.redis, settled)


async def doubt(state, account):
    """As if all that it holds had been held for long."""
    for job in await state.redis.zrange(f"{ACCOUNT}{account}:open", 0, -1):
        await state.redis.zadd(f"{ACCOUNT}{account}:open", {job: 1})


async def how_many(states, who, count):
    """Of so many at once, through several processes."""
    told = await asyncio.gather(*(made(states[n % len(states)], who) for n in range(count)), return_exceptions=True)
    refused = [each for each in told if isinstance(each, Exception)]
    assert all(isinstance(each, RateLimited | BudgetExceeded | InsufficientCredits) for each in refused), refused[:3]
    return [each for each in told if isinstance(each, NewJob)]


async def test_an_account_without_limits_is_not_looked_at(state):
    who = await caller(state)
    job = await made(
        SimpleNamespace(database=state.database, redis=None, headers=state.headers), replace(who, tag="shop")
    )
    assert (job.held_micros, job.parent_id, job.tag) == (None, None, "shop")
    assert state.headers == {}


async def test_a_model_that_is_not_allowed(state):
    who = await caller(state, models=["mistralai/Mistral-Small-24B-Instruct"])
    with pytest.raises(ModelNotAllowed):
        await made(state, who)
    below = await caller(state, above={"models": ["another"]}, models=["tram-demo"])
    with pytest.raises(ModelNotAllowed):
        await made(state, below)
    assert (await made(state, await caller(state, models=["tram-demo"]))).held_micros is None


@pytest.mark.parametrize("limits", [{"above": {"parallel": 20}}, {"parallel": 20}])
async def test_of_many_through_two_processes_as_many_as_may(state, replica, limits):
    who = await caller(state, **limits)
    assert len(await how_many((state, replica), who, 60)) == 20


@pytest.mark.parametrize("limit", ["month_cap_micros", "total_cap_micros", "credit_micros"])
async def test_money_is_never_overrun(state, replica, limit):
    """Whatever is asked for at once, and whenever it ends, what is spent stays below the limit."""
    cap = 5 * round(ABOUT_MICROS)
    who = await caller(state, **{limit: cap})
    ran = 0
    for _ in range(4):
        running = await how_many((state, replica), who, 10)
        assert sum(job.held_micros for job in running) <= cap
        await asyncio.gather(*(ends(state, job, prompt_tokens=1000, completion_tokens=900) for job in running))
        ran += len(running)
    spent = await state.database.read(partial(usage.spent, account_id=who.account_id, month=month_of(now_ms())))
    assert spent[1] == ran * (350 + 495)
    assert cap - 1000 < spent[1] <= cap
    kind = InsufficientCredits if limit == "credit_micros" else BudgetExceeded
    with pytest.raises(kind, match="max_completion_tokens"):
        await made(state, who)


async def test_a_place_that_a_dead_worker_kept_is_found(state):
    who = await caller(state, parallel=2)
    first, second = [await made(state, who) for _ in range(2)]
    await ends(state, first, tells=False)
    with pytest.raises(RateLimited):
        await made(state, who)
    await doubt(state, who.account_id)
    third = await made(state, who)
    await doubt(state, who.account_id)
    with pytest.raises(RateLimited):
        await made(state, who)
    assert set(await state.redis.zrange(f"{ACCOUNT}{who.account_id}:open", 0, -1)) == {
        job.id.encode() for job in (second, third)
    }


async def test_a_place_of_a_job_that_was_never_made_is_found(state):
    who = await caller(state, parallel=1, requests_per_minute=5)
    await admit(state, who, [new(who)])
    await doubt(state, who.account_id)
    await made(state, who)


async def test_money_that_a_dead_worker_had_not_counted_is_counted(state):
    cap = 2 * round(ABOUT_MICROS)
    who = await caller(state, total_cap_micros=cap)
    first = await made(state, who)
    await ends(state, first, tells=False, prompt_tokens=1000, completion_tokens=900)
    await made(state, who)
    await doubt(state, who.account_id)
    with pytest.raises(BudgetExceeded):
        await made(state, who)
    assert await state.redis.hget(f"{ACCOUNT}{who.account_id}:state", "s:total") == b"845"


async def test_redis_that_has_lost_everything_learns_it_from_the_books(state):
    cap = 3 * round(ABOUT_MICROS)
    who = await caller(state, above={"credit_micros": cap})
    first, second = [await made(state, who) for _ in range(2)]
    await ends(state, first, prompt_tokens=2000, completion_tokens=900)
    await state.redis.flushall()
    with pytest.raises(InsufficientCredits):
        await made(state, who), await made(state, who)
    await ends(state, second, prompt_tokens=1000, completion_tokens=0)
    key = f"{ACCOUNT}{who.parent_id}:state"
    assert await state.redis.hget(key, "s:total") == str(700 + 495 + 350).encode()


async def test_a_refusal_says_when_to_come_back_and_how_full_it_is(state):
    who = await caller(state, requests_per_minute=2, tokens_per_minute=100_000)
    await made(state, who)
    assert state.headers["x-ratelimit-limit-requests"] == "2"
    assert state.headers["x-ratelimit-remaining-requests"] == "1"
    assert state.headers["x-ratelimit-reset-requests"] == "30s"
    assert state.headers["x-ratelimit-limit-tokens"] == "100000"
    assert 98_000 < int(state.headers["x-ratelimit-remaining-tokens"]) < 99_000
    assert state.headers["x-ratelimit-reset-tokens"].endswith("ms")
    await made(state, who)
    with pytest.raises(RateLimited) as caught:
        await made(state, who)
    assert 0 < caught.value.retry_after_s <= 30
    assert state.headers["x-ratelimit-remaining-requests"] == "0"


async def test_no_wait_is_longer_than_clients_would_take_it_for(state):
    who = await caller(state, tokens_per_minute=10)
    await made(state, who)
    with pytest.raises(RateLimited) as caught:
        await made(state, who)
    assert caught.value.retry_after_s == 120


async def test_what_is_given_back_can_be_had_again(state):
    who = await caller(state, parallel=1)
    for _ in range(3):
        (job,) = await admit(state, who, [new(who)])
        await admission.give_back(state.redis, who, [job])


async def test_several_are_admitted_together_or_not(state):
    who = await caller(state, parallel=3)
    with pytest.raises(RateLimited):
        await admit(state, who, [new(who) for _ in range(4)])
    assert len(await admit(state, who, [new(who) for _ in range(3)])) == 3


@pytest.mark.parametrize("held_by", ["itself", "the one above"])
async def test_short_money_says_whether_open_jobs_hold_what_is_missing(state, held_by):
    cap = round(1.5 * ABOUT_MICROS)
    limits = {"total_cap_micros": cap, "above": {}} if held_by == "itself" else {"above": {"credit_micros": cap}}
    who = await caller(state, **limits)
    first = await made(state, who)
    with pytest.raises((BudgetExceeded, InsufficientCredits)) as caught:
        await made(state, who)
    assert caught.value.bound
    with pytest.raises((BudgetExceeded, InsufficientCredits)) as caught:
        await made(state, who, parameters={"max_completion_tokens": 2 * TOKENS})
    assert not caught.value.bound, "nor would it fit if that job cost nothing"
    await ends(state, first, prompt_tokens=1000, completion_tokens=900)
    with pytest.raises((BudgetExceeded, InsufficientCredits)) as caught:
        await made(state, who)
    assert not caught.value.bound, "nothing is open any more"


async def test_without_redis_rates_are_let_go_and_money_is_not(state, tmp_path):
    away = SimpleNamespace(database=state.database, redis=client(f"unix://{tmp_path}/none"), headers={})
    assert (await made(away, await caller(state, requests_per_minute=1, parallel=1))).held_micros is None
    for limit in ("credit_micros", "total_cap_micros", "month_cap_micros"):
        with pytest.raises(Unavailable):
            await made(away, await caller(state, **{limit: 10**9}))
    await away.redis.aclose()
