"""How do we reach Redis, and which keys do we keep there?

Redis holds nothing that cannot be lost: jobs are rows, and what lies here is a queue of their ids, the tokens of running answers
and hints.  So keys have a time to live, and this page says why it is what it is.

`client` is for ordinary commands (a quick retry, a limit on waiting).  `Wire` is one connection of one's own for the token
stream's two hot loops: no pool, no retry behind the caller's back, commands packed by hiredis (redis-py packs in Python, 0.4 us an
argument, and the reader sends hundreds).  RESP 2 throughout: one shape of replies, no push frames.  Keep-alive is redis-py's own
(30 s idle, three probes 5 s apart).
"""

import asyncio
from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.exceptions import RedisError

STREAM = "tram:stream:"
"""+ job id: the tokens of one answer.  An hour, renewed while it runs, so that a dead worker's leaves nothing behind; 15 minutes
after the end, for clients that come back."""
WAKE = "tram:wake:"
"""+ random: a reader adds to its own to end its own blocked read.  A minute, renewed by wakes half a minute apart."""
ACCOUNT = "tram:account:"
"""+ account's id, and a part: how much of its limits is taken (`infra.rate_limiter`).  Eight days, renewed by each job."""
CANCEL_CHANNEL = "tram:cancel"
"""Publish and subscribe, keeps nothing: ids of jobs to stop now.  Who misses one learns of it when the lease is renewed."""
NUDGE_CHANNEL = "tram:nudge"
"""Publish and subscribe, keeps nothing: a delivery is due now.  Who misses one finds it on the next round."""
MARK = "tram:mark"
"""Set once and for good: when it is gone, Redis has lost everything, and every queued job is published again."""
WORKER, WORKERS = "tram:worker:", "tram:workers"
"""+ worker's name: what it serves, and how much of it (`infra.fleet`, which says for how long); and the set of those names."""
CARD, CARDS = "tram:card:", "tram:cards"
"""+ card's id: a card that was served lately.  A week, as long as a job may wait for a worker; and the set of those ids."""
UPKEEP = "tram:upkeep:"
"""+ host: an upkeep process there is alive.  15 s, renewed every 5 s."""

BLOCK_MS = 2_000
"""How long a read may block.  Every socket time-out here is well above it."""
COMMAND_TIMEOUT_S = 10.0
FAULTS = (RedisError, OSError)
"""What a call raises when Redis is away, hung, full or read-only (TimeoutError is an OSError)."""


def client(url: str, *, connections: int = 512) -> Redis:
    """For `redis://`, `rediss://` and `unix:///path`.  Replies stay bytes."""
    return Redis.from_url(
        url,
        protocol=2,
        max_connections=connections,  # redis-py's 100 is below one worker's concurrency; above it raises, it does not wait
        socket_timeout=COMMAND_TIMEOUT_S,  # a hung server would otherwise hold a caller for ever
        socket_connect_timeout=2.0,
        health_check_interval=30,
        retry=Retry(ExponentialBackoff(cap=0.2, base=0.02), 2),  # bears a restart's torn connections, not an outage
    )


class Wire:
    """One connection, one command at a time; connects when it must.  redis-py closes it when a call breaks off half-way."""

    def __init__(self, redis: Redis) -> None:
        pool = redis.connection_pool
        changed = {"retry": Retry(NoBackoff(), 0), "socket_timeout": None, "health_check_interval": 0}
        self._connection = pool.connection_class(**{**pool.connection_kwargs, **changed})

    async def call(self, command: tuple[bytes | str | int, ...], *, timeout_s: float) -> Any:
        """The raw reply.  Raises one of FAULTS."""
        packed = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub says: a tuple of one
        async with asyncio.timeout(timeout_s):
            await self._connection.send_packed_command(packed)
            return await self._connection.read_response()

    async def close(self) -> None:
        await self._connection.disconnect()
