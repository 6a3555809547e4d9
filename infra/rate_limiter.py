"""May these jobs begin, by every limit of an account and of the one above it?  One script, one round trip, all or nothing.

Rates are leaky buckets that hold a minute's worth: two numbers a limit, so that memory does not grow with traffic, an exact wait
for whoever is refused, and a count that can be corrected when a job turns out to have taken less.  The price is that a full
minute's worth may follow a quiet minute at once; over time the rate is kept.  A job that is larger than the bucket goes through
when the bucket is empty, and then overfills it.

What a job may cost at most is held from its admission to its end, beside what was spent.  Redis is the gate and not the book: what
was spent is seeded from the database, again every minute, and a hold says when it should be doubted, so that a job that ended
without letting go (its worker died in between) is found out when somebody is refused because of it.  Seeding goes by a count of
settlements: if one came between the reading of the books and the seed, the books are read again.  A script whose answer was lost is
repeated, so each counts a job once.

It raises what Redis raises (`infra.redis.FAULTS`), but for `let_go`; what follows from that is the caller's to say.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import orjson
from redis.asyncio import Redis

from infra.redis import ACCOUNT, FAULTS
from models.limits import Demand, Limits, Settlement

log = logging.getLogger(__name__)

KEEP_MS = 8 * 86_400_000
"""Above a job's longest deadline, a week."""
TRUST_MS = 45_000
"""Above the ten seconds for which an insert waits for its database, and thirty for its answer: by then the job has a row, or never will."""
DOUBT_MS = 2_000
"""A job that was found open is asked about again after this long, if it stands in somebody's way."""
FRESH_MS = 60_000
"""How long what was spent is believed without a look into the books."""
DOUBTED_MOST = 100
_PATIENCE_S = 5.0
"""No answer is to wait longer for a count of it, and a busy machine should not look like an outage; what runs out is among FAULTS."""

_BUCKET = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local asked = cjson.decode(ARGV[1])
local function number(key, field) return tonumber(redis.call('HGET', key, field) or 0) end
local function whole(value) return string.format('%.0f', value) end
local function level(state, name, limit)
    local since = now - tonumber(redis.call('HGET', state, name .. '@') or now)
    return math.max(0, number(state, name) - since * limit / 60000)
end
local function pour(state, name, limit, amount)
    local used = math.max(0, level(state, name, limit) + amount)
    redis.call('HSET', state, name, string.format('%.6f', used), name .. '@', whole(now), name .. '/', whole(limit))
    return used
end
local function hold(state, open, held, job, micros, tokens)
    redis.call('ZADD', open, now + asked.trust_ms, job)
    redis.call('HSET', held, job, whole(micros) .. ' ' .. whole(tokens))
    redis.call('HINCRBY', state, 'held', whole(micros))
end
"""

_TAKE = """
local stale, refused, levels, doubted = {}, {}, {}, {}
local micros, tokens, jobs, demands = 0, 0, 0, {}
for _, each in ipairs(asked.demands) do
    if not redis.call('ZSCORE', KEYS[2], each.job_id) then  -- else it is taken, and our answer was lost on the way
        micros, tokens, jobs = micros + each.micros, tokens + each.tokens, jobs + 1
        table.insert(demands, each)
    end
end
local function set(value) return type(value) == 'number' end

for place, limits in ipairs(asked.limits) do
    local state, open = KEYS[place * 3 - 2], KEYS[place * 3 - 1]
    if limits.money then
        local missing = redis.call('HEXISTS', state, 's:' .. asked.month) == 0
        if missing or (not asked.stale and now - number(state, 'seeded') > asked.fresh_ms) then
            local ids = redis.call('ZRANGE', open, 0, -1)
            table.insert(stale, {account = place - 1, settled = number(state, 'settled'), held = ids})
        end
    end
end
if #stale > 0 then return cjson.encode({stale = stale}) end

local function refuse(place, kind, wait_ms, left, held)
    if jobs == 0 then return end
    table.insert(refused, {account = place - 1, kind = kind, wait_ms = wait_ms, left = left, held = held or 0})
end
local function budget(place, kind, limit, spent, held)
    if not set(limit) then return end
    local left = limit - spent - held
    if micros > left then refuse(place, kind, 0, left, held) end
end
local function rate(place, kind, limit, state, name, amount)
    if not set(limit) then return nil end
    local used = level(state, name, limit)
    local over = used + math.min(amount, limit) - limit
    if over > 0.000001 then refuse(place, kind, over * 60000 / limit, limit - used) end
    return used
end
for place, limits in ipairs(asked.limits) do
    local state, open = KEYS[place * 3 - 2], KEYS[place * 3 - 1]
    local before = #refused
    if limits.money then
        local held, ever = number(state, 'held'), number(state, 's:total')
        local month = number(state, 's:' .. asked.month)
        budget(place, 'credits', limits.credit_micros, ever, held)
        budget(place, 'budget', limits.total_cap_micros, ever, held)
        budget(place, 'budget', limits.month_cap_micros, month, held)
    end
    if set(limits.parallel) and redis.call('ZCARD', open) + jobs > limits.parallel then
        refuse(place, 'parallel', 1000, limits.parallel - redis.call('ZCARD', open))
    end
    if #refused > before then
        for _, job in ipairs(redis.call('ZRANGEBYSCORE', open, '-inf', now, 'LIMIT', 0, asked.doubted_most)) do
            redis.call('ZADD', open, now + asked.doubt_ms, job)
            table.insert(doubted, job)
        end
    end
    levels[place] = {
        requests = rate(place, 'requests', limits.requests_per_minute, state, 'r', jobs),
        tokens = rate(place, 'tokens', limits.tokens_per_minute, state, 't', tokens),
        none = 0,
    }
end
if #refused > 0 then return cjson.encode({refused = refused, doubted = doubted, levels = levels}) end

for place, limits in ipairs(asked.limits) do
    local state, open, held = KEYS[place * 3 - 2], KEYS[place * 3 - 1], KEYS[place * 3]
    local rpm, tpm = limits.requests_per_minute, limits.tokens_per_minute
    if set(rpm) then levels[place].requests = pour(state, 'r', rpm, jobs) end
    if set(tpm) then levels[place].tokens = pour(state, 't', tpm, tokens) end
    for _, each in ipairs(demands) do hold(state, open, held, each.job_id, each.micros, each.tokens) end
    for _, key in ipairs({state, open, held}) do redis.call('PEXPIRE', key, asked.keep_ms) end
end
return cjson.encode({levels = levels})
"""

_SETTLE = """
for place = 1, #KEYS / 3 do
    local state, open, held = KEYS[place * 3 - 2], KEYS[place * 3 - 1], KEYS[place * 3]
    for _, each in ipairs(asked.ended) do
        if redis.call('ZREM', open, each.job_id) == 1 then
            local micros, tokens = string.match(redis.call('HGET', held, each.job_id), '(%d+) (%-?%d+)')
            redis.call('HDEL', held, each.job_id)
            redis.call('HINCRBY', state, 'held', whole(0 - micros))
            redis.call('HINCRBY', state, 'settled', 1)
            for _, field in ipairs({'s:' .. each.month, 's:total'}) do
                if redis.call('HEXISTS', state, field) == 1 then redis.call('HINCRBY', state, field, whole(each.micros)) end
            end
            local rpm, tpm = number(state, 'r/'), number(state, 't/')
            if tpm > 0 and tonumber(tokens) >= 0 then pour(state, 't', tpm, each.tokens - tokens) end
            if rpm > 0 and asked.never_ran then pour(state, 'r', rpm, -1) end
        end
    end
end
"""

_SEED = """
local state, open, held = KEYS[1], KEYS[2], KEYS[3]
if number(state, 'settled') ~= asked.settled then return 0 end
redis.call('HSET', state, 's:' .. asked.month, whole(asked.month_micros), 's:total', whole(asked.total_micros),
    'seeded', whole(now))
for _, each in ipairs(asked.open) do
    if not redis.call('ZSCORE', open, each[1]) then hold(state, open, held, each[1], each[2], -1) end
end
for _, key in ipairs({state, open, held}) do redis.call('PEXPIRE', key, asked.keep_ms) end
return 1
"""


class Kind(StrEnum):
    CREDITS = "credits"
    BUDGET = "budget"
    PARALLEL = "parallel"
    REQUESTS = "requests"
    TOKENS = "tokens"


@dataclass(frozen=True, slots=True)
class Refused:
    """A limit that stands in the way; `left` is what it has room for, in its own unit."""

    account: int
    kind: Kind
    wait_ms: float
    left: float
    held: float
    """Of money, what open jobs hold of it until they end; else nothing."""


@dataclass(frozen=True, slots=True)
class Stale:
    """An account whose books have to be read; `held` names the jobs that count as open."""

    account: int
    settled: int
    held: Sequence[str]


@dataclass(frozen=True, slots=True)
class Told:
    """Admitted, unless something is refused or stale: then nothing was taken.  `levels` are how full the rates are."""

    levels: Sequence[dict[str, float]]
    refused: Sequence[Refused] = ()
    doubted: Sequence[str] = ()
    stale: Sequence[Stale] = ()


async def take(
    redis: Redis, limits: Sequence[Limits], demands: Sequence[Demand], month: str, *, stale: bool = False
) -> Told:
    """`stale`: content with what is known of the books, however old, if anything is known."""
    asked = {
        "limits": [asdict(each) | {"money": each.money} for each in limits],
        "demands": [asdict(each) for each in demands],
        "month": month,
        "stale": stale,
        "doubted_most": DOUBTED_MOST,
        "fresh_ms": FRESH_MS,
    }
    told = orjson.loads(await _run(redis, _TAKE, [each.account_id for each in limits], asked))
    return Told(
        levels=told.get("levels") or [],
        refused=[Refused(**each | {"kind": Kind(each["kind"])}) for each in told.get("refused") or ()],
        doubted=list(told.get("doubted") or ()),
        stale=[Stale(each["account"], each["settled"], each["held"] or []) for each in told.get("stale") or ()],
    )


async def settle(redis: Redis, ended: Settlement) -> None:
    """What was held for a job is let go, and what it took is counted; once, however often it is told."""
    await _run(redis, _SETTLE, ended.accounts, {"ended": [asdict(ended)], "never_ran": False})


async def let_go(redis: Redis, ended: Settlement | None) -> None:
    """As `settle`, for whoever has just ended a job: without Redis its place is freed when it stands in somebody's way."""
    if ended is None:
        return
    try:
        await settle(redis, ended)
    except FAULTS:
        log.warning("Redis is away: what was held for %s is let go later", ended.job_id)


async def give_back(redis: Redis, accounts: Sequence[str], job_ids: Sequence[str]) -> None:
    """Jobs that were admitted and never made: as if they had not been asked for."""
    nothing = [asdict(Settlement(job_id, (), 0, 0, "")) for job_id in job_ids]
    await _run(redis, _SETTLE, accounts, {"ended": nothing, "never_ran": True})


async def seed(
    redis: Redis, account_id: str, month: str, settled: int, spent: tuple[int, int], held: Sequence[tuple[str, int]]
) -> bool:
    """What the books say: micro-dollars this month and ever, and what is held for open jobs.  False: read them again."""
    asked = {"month": month, "settled": settled, "month_micros": spent[0], "total_micros": spent[1], "open": held}
    return bool(await _run(redis, _SEED, [account_id], asked))


async def _run(redis: Redis, script: str, accounts: Sequence[str], asked: dict[str, Any]) -> Any:
    keys = [f"{ACCOUNT}{account}:{part}" for account in accounts for part in ("state", "open", "held")]
    document = orjson.dumps(asked | {"trust_ms": TRUST_MS, "doubt_ms": DOUBT_MS, "keep_ms": KEEP_MS})
    async with asyncio.timeout(_PATIENCE_S):
        return await redis.register_script(_BUCKET + script)(keys=keys, args=[document])
