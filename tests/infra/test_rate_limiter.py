"""Limits hold to the last job however many ask at once and through however many processes; holds are let go once.  A real Redis."""

import asyncio
import itertools
import signal
import subprocess
import time

import pytest

from infra.rate_limiter import KEEP_MS, Kind, give_back, let_go, seed, settle, take
from infra.redis import ACCOUNT, FAULTS, client
from infra.redis_server import find_server
from models.limits import Demand, Limits, Settlement

MONTH = "2026-11"
A, P = "acct_a", "acct_p"
STOP_S = 20.0


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    socket = tmp_path_factory.mktemp("valkey") / "s"
    options = ("--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no")
    with subprocess.Popen([find_server(), *options], stdout=subprocess.PIPE) as process:
        assert any(b"Ready to accept" in line for line in process.stdout)
        yield process, f"unix://{socket}"
        process.kill()
        process.wait(STOP_S)


@pytest.fixture
def redis_url(server):
    return server[1]


@pytest.fixture
async def redis(redis_url):
    connected = client(redis_url)
    await connected.flushall()
    yield connected
    await connected.aclose()


@pytest.fixture
async def other(redis_url):
    """As a second API process has it."""
    connected = client(redis_url)
    yield connected
    await connected.aclose()


@pytest.fixture
async def torn(redis_url, tmp_path):
    """A client, and what was lost on its way: the answer to the first admission, which Redis had done."""
    lost, links = [], set()

    async def link(reader, writer):
        links.add(asyncio.current_task())
        there, back = await asyncio.open_unix_connection(redis_url.removeprefix("unix://"))
        await there_and_back(reader, back, there, writer, lost)
        for end in (writer, back):
            end.close()

    async with await asyncio.start_unix_server(link, tmp_path / "torn"):
        connected = client(f"unix://{tmp_path}/torn")
        yield connected, lost
        await connected.aclose()
        await asyncio.gather(*links)


async def there_and_back(caller, server, answers, writer, lost):
    """Redis answers one question after the other."""
    while question := await caller.read(65536):
        server.write(question)
        answer = await answers.read(65536)
        if b"demands" in question and not lost:
            return lost.append(answer)
        writer.write(answer)
    return None


def job(number, tokens=0, micros=0):
    return Demand(f"job_{number}", tokens, micros)


async def ask(redis, limits, *demands, **options):
    limits = [limits] if isinstance(limits, Limits) else limits
    return await take(redis, limits, demands or [job(1)], MONTH, **options)


async def seeded(redis, account, this_month=0, ever=0, open_jobs=()):
    assert await seed(redis, account, MONTH, 0, (this_month, ever), open_jobs)


def ended(number, tokens=0, micros=0, accounts=(A,)):
    return Settlement(f"job_{number}", accounts, tokens, micros, MONTH)


def kinds(told):
    return [each.kind for each in told.refused]


async def many(redises, limits, count=200, **demand):
    """How many of so many at once are let in, and how long they were at it."""
    began = time.monotonic()
    told = await asyncio.gather(*(ask(redises[n % 2], limits, job(n, **demand)) for n in range(count)))
    return sum(not each.refused and not each.stale for each in told), time.monotonic() - began


@pytest.mark.parametrize("limits", [[Limits(A, parallel=50)], [Limits(A, parallel=60), Limits(P, parallel=50)]])
async def test_of_200_at_once_50_have_a_place(redis, other, limits):
    admitted, _ = await many((redis, other), limits)
    assert admitted == 50
    for each in limits:
        assert await redis.zcard(f"{ACCOUNT}{each.account_id}:open") == 50, "who is refused by one has taken of none"


async def test_of_200_at_once_a_minutes_worth_is_let_in(redis, other):
    admitted, took_s = await many((redis, other), Limits(A, requests_per_minute=50))
    assert 50 <= admitted <= 50 + took_s * 50 / 60 + 1e-9


async def test_of_200_at_once_as_many_tokens_as_there_are(redis, other):
    admitted, took_s = await many((redis, other), Limits(A, tokens_per_minute=5000), tokens=100)
    assert 50 <= admitted <= 50 + took_s * 5000 / 60 / 100 + 1e-9


@pytest.mark.parametrize("limit", ["month_cap_micros", "total_cap_micros", "credit_micros"])
async def test_of_200_at_once_no_more_than_the_money_covers(redis, other, limit):
    await seeded(redis, A, 100, 100)
    admitted, _ = await many((redis, other), Limits(A, **{limit: 5199}), micros=100)
    assert admitted == 50
    told = await ask(redis, Limits(A, **{limit: 5199}), job(999, micros=100))
    assert kinds(told) == [Kind.CREDITS if limit == "credit_micros" else Kind.BUDGET]
    assert told.refused[0].left == 99
    assert not (await ask(redis, Limits(A, **{limit: 5199}), job(1000, micros=99))).refused


async def test_money_is_never_overrun_while_jobs_end(redis, other):
    """What is spent and what is held stay below the cap at every moment, and what was not needed can be had again."""
    limits, spent, ran = Limits(A, total_cap_micros=10_000), 0, 0
    await seeded(redis, A)

    async def one(number):
        nonlocal spent, ran
        mine = (redis, other)[number % 2]
        if (await ask(mine, limits, job(number, micros=1000))).refused:
            return
        ran, spent = ran + 1, spent + 300
        await settle(mine, ended(number, micros=300))

    for start in range(0, 800, 40):
        await asyncio.gather(*(one(start + n) for n in range(40)))
    assert spent == ran * 300 <= 10_000
    assert 10_000 - spent < 1000, "until nothing more could be covered"
    assert await redis.hmget(f"{ACCOUNT}{A}:state", "s:total", "held") == [str(spent).encode(), b"0"]


async def test_a_rate_comes_back_with_time_and_says_when(redis):
    limits = Limits(A, requests_per_minute=600)
    for number in range(600):
        assert not (await ask(redis, limits, job(number))).refused or number > 590
    more = itertools.count(600)  # a job that was let in is not counted again
    while not (told := await ask(redis, limits, job(next(more)))).refused:
        pass
    (refused,) = told.refused
    assert (refused.kind, refused.account) == (Kind.REQUESTS, 0)
    assert 0 < refused.wait_ms <= 100
    assert told.levels[0]["requests"] > 599
    await redis.hset(f"{ACCOUNT}{A}:state", "r@", int(time.time() * 1000) - 200)
    assert not (await ask(redis, limits, job(next(more)))).refused


async def test_what_is_larger_than_the_bucket_goes_when_it_is_empty_and_overfills_it(redis):
    limits = Limits(A, tokens_per_minute=1000)
    assert not (await ask(redis, limits, job(1, tokens=3000))).refused
    (refused,) = (await ask(redis, limits, job(2, tokens=1))).refused
    assert refused.kind is Kind.TOKENS
    assert 90_000 < refused.wait_ms <= 120_060  # less, by the time that has passed since


async def test_tokens_are_corrected_when_the_job_has_ended(redis):
    limits = Limits(A, tokens_per_minute=1000)
    assert not (await ask(redis, limits, job(1, tokens=900))).refused
    assert (await ask(redis, limits, job(2, tokens=900))).refused
    await settle(redis, ended(1, tokens=50))
    told = await ask(redis, limits, job(2, tokens=900))
    assert not told.refused
    assert 930 < told.levels[0]["tokens"] <= 950
    await settle(redis, ended(2, tokens=1500))
    assert kinds(await ask(redis, limits, job(3, tokens=1))) == [Kind.TOKENS]


async def test_a_place_is_free_once_its_job_has_ended_however_often_that_is_told(redis):
    limits = Limits(A, parallel=2)
    assert not (await ask(redis, limits, job(1), job(2))).refused
    assert kinds(await ask(redis, limits, job(3))) == [Kind.PARALLEL]
    for _ in range(3):
        await settle(redis, ended(1))
    assert not (await ask(redis, limits, job(3))).refused
    assert kinds(await ask(redis, limits, job(4))) == [Kind.PARALLEL]


async def test_several_go_together_or_not_at_all(redis):
    limits = Limits(A, parallel=3, requests_per_minute=10)
    assert kinds(await ask(redis, limits, *(job(n) for n in range(4)))) == [Kind.PARALLEL]
    told = await ask(redis, limits, *(job(n) for n in range(3)))
    assert not told.refused
    assert 2.9 < told.levels[0]["requests"] <= 3


async def test_what_was_given_back_was_never_asked_for(redis):
    await seeded(redis, A)
    limits = Limits(A, parallel=1, requests_per_minute=1, tokens_per_minute=100, total_cap_micros=100)
    for _ in range(3):
        assert not (await ask(redis, limits, job(1, tokens=100, micros=100))).refused
        for _ in range(2):
            await give_back(redis, [A], ["job_1"])


async def test_every_limit_in_the_way_is_told_and_nothing_was_taken(redis):
    await seeded(redis, P)
    limits = [Limits(A, parallel=1, requests_per_minute=1), Limits(P, credit_micros=100)]
    assert not (await ask(redis, limits, job(1, micros=60))).refused
    told = await ask(redis, limits, job(2, micros=60))
    assert [(each.account, each.kind) for each in told.refused] == [
        (0, Kind.PARALLEL),
        (0, Kind.REQUESTS),
        (1, Kind.CREDITS),
    ]
    await settle(redis, ended(1, micros=10, accounts=(A, P)))
    assert kinds(await ask(redis, [limits[1]], job(3, micros=90))) == []


async def test_books_are_asked_for_when_unknown_and_when_old(redis):
    limits = Limits(A, month_cap_micros=1000)
    (stale,) = (await ask(redis, limits, job(1, micros=1))).stale
    assert (stale.account, stale.settled, list(stale.held)) == (0, 0, [])
    assert (await ask(redis, limits, job(1, micros=1), stale=True)).stale, "what is unknown is never guessed"
    await seeded(redis, A, 5, 7)
    assert not (await ask(redis, limits, job(1, micros=1))).stale
    await redis.hset(f"{ACCOUNT}{A}:state", "seeded", 1)
    (stale,) = (await ask(redis, limits, job(2, micros=1))).stale
    assert list(stale.held) == ["job_1"]
    assert not (await ask(redis, limits, job(2, micros=1), stale=True)).stale
    told = await take(redis, [limits], [job(3, micros=1)], "2026-12")
    assert told.stale, "another month is unknown"


async def test_books_read_before_a_job_ended_are_not_believed(redis):
    await seeded(redis, A)
    limits = Limits(A, total_cap_micros=1000)
    await ask(redis, limits, job(1, micros=100))
    await settle(redis, ended(1, micros=40))
    assert not await seed(redis, A, MONTH, 0, (0, 0), [])
    assert await redis.hget(f"{ACCOUNT}{A}:state", "s:total") == b"40"
    assert await seed(redis, A, MONTH, 1, (40, 40), [])


async def test_a_seed_brings_back_what_is_held_for_open_jobs_and_holds_nothing_twice(redis):
    limits = Limits(A, total_cap_micros=1000, tokens_per_minute=10)
    await seeded(redis, A, 0, 0, [("job_1", 600)])
    assert kinds(await ask(redis, limits, job(2, micros=500))) == [Kind.BUDGET]
    await seeded(redis, A, 0, 0, [("job_1", 600)])
    assert not (await ask(redis, limits, job(2, micros=400))).refused
    await settle(redis, ended(1, tokens=500, micros=1))
    assert not (await ask(redis, limits, job(3, micros=599))).refused, "its tokens were of a minute that is forgotten"


async def test_who_stands_in_the_way_for_long_is_doubted_and_not_at_every_request(redis):
    limits = Limits(A, parallel=1)
    await ask(redis, limits, job(1))
    assert list((await ask(redis, limits, job(2))).doubted) == []
    await redis.zadd(f"{ACCOUNT}{A}:open", {"job_1": 1})
    assert list((await ask(redis, limits, job(2))).doubted) == ["job_1"]
    assert list((await ask(redis, limits, job(2))).doubted) == []


async def test_a_rate_doubts_nobody(redis):
    limits = Limits(A, requests_per_minute=1)
    await ask(redis, limits, job(1))
    await redis.zadd(f"{ACCOUNT}{A}:open", {"job_1": 1})
    told = await ask(redis, limits, job(2))
    assert (kinds(told), list(told.doubted)) == ([Kind.REQUESTS], [])


async def test_an_admission_whose_answer_was_lost_is_taken_once(redis, torn):
    """redis-py repeats it: neither money, nor place, nor rate is bound twice, and the job is not refused because of itself."""
    connected, lost = torn
    await ask(redis, Limits(P, parallel=1), job(0))  # now the server knows the script
    await seeded(redis, A)
    limits = Limits(A, parallel=1, requests_per_minute=1, tokens_per_minute=10, total_cap_micros=1000)
    told = await ask(connected, limits, job(1, tokens=100, micros=1000))
    assert len(lost) == 1
    assert b"levels" in lost[0]
    assert (kinds(told), told.stale) == ([], [])
    assert 99 < told.levels[0]["tokens"] <= 100
    assert told.levels[0]["requests"] <= 1
    assert kinds(await ask(redis, limits, job(2, micros=1))) == list(Kind)[1:]
    await settle(redis, ended(1, tokens=0, micros=10))
    assert await redis.hmget(f"{ACCOUNT}{A}:state", "s:total", "held") == [b"10", b"0"]


async def test_keys_do_not_stay_for_ever(redis):
    await ask(redis, Limits(A, parallel=1, requests_per_minute=5), job(1))
    for key in await redis.keys("*"):
        assert 0 < await redis.pttl(key) <= KEEP_MS


async def test_a_redis_that_hangs_holds_nobody_up_for_long(server, redis):
    process, _ = server
    process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    try:
        with pytest.raises(FAULTS):
            await ask(redis, Limits(A, parallel=1))
        await let_go(redis, ended(1))
    finally:
        process.send_signal(signal.SIGCONT)
    assert time.monotonic() - began < 15


async def test_without_redis_an_end_is_no_failure_and_an_admission_says_so(tmp_path):
    nowhere = client(f"unix://{tmp_path}/none")
    await let_go(nowhere, ended(1))
    await let_go(nowhere, None)
    with pytest.raises(FAULTS):
        await ask(nowhere, Limits(A, parallel=1))
    await nowhere.aclose()
