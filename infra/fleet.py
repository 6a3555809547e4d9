"""Which workers are there, and what do they serve?  Each announces itself in Redis; whoever asks reads it from there.

An announcement has a time to live and is renewed, so a worker that dies is forgotten by itself and no clocks are compared between
hosts.  Beside it the served card is kept for a week: a caller of a model whose workers are all away shall hear "not now" instead of
"no such model".  Reading is one round trip.  An announcement that another release wrote and this one cannot read is passed over.
"""

import logging
import socket
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from redis.asyncio import Redis

from infra.redis import CARD, CARDS, MARK, WORKER, WORKERS
from models.cards.card import Card, catalogue

ANNOUNCED_S = 12
"""Four renewals of three seconds: a worker that is gone is soon forgotten, and three that fail do no harm."""
CARD_S = 7 * 86_400
"""As long as a job may wait for its model's worker."""

log = logging.getLogger(__name__)


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True)


class Engine(_Told):
    joined: bool
    """Somebody else's, at TRAM_ENGINE_URL; else started from the card."""
    ready: bool = False
    name: str = "unknown"
    version: str = ""


class Totals(_Told):
    """Since the worker's start."""

    jobs: int = 0
    """Ended, whichever way."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompt's."""
    completion_tokens: int = 0

    def plus(self, usage: dict[str, Any]) -> "Totals":
        return Totals(
            jobs=self.jobs + 1,
            prompt_tokens=self.prompt_tokens + usage["prompt_tokens"],
            cached_tokens=self.cached_tokens + usage["prompt_tokens_details"]["cached_tokens"],
            completion_tokens=self.completion_tokens + usage["completion_tokens"],
        )


class Worker(_Told):
    """What one announces."""

    name: str
    host: str
    pid: int
    card: str
    """Its id."""
    capacity: int
    """Jobs it holds at once."""
    engine: Engine
    version: str
    """Of Tramontane."""
    fingerprint: str = ""
    """The `system_fingerprint` of its answers."""
    gpu: str = ""
    """Empty: none, or a joined engine's, which does not tell."""
    since: float
    """Unix seconds by its own host's clock: to be shown, or compared on that host."""
    running: int = 0
    totals: Totals = Totals()


class Told(_Told):
    """What Redis held at one moment."""

    workers: tuple[Worker, ...]
    cards: tuple[Card, ...]
    """Served within the last week."""
    waiting: dict[str, int]
    """Jobs that no worker has taken, by queue; of those queues that were asked about."""
    mark: bytes | None
    """Another one than before: Redis has lost everything in between, and workers have to announce themselves anew."""


async def announce(redis: Redis, worker: Worker, card: Card) -> None:
    """One of infra.redis.FAULTS when Redis is away."""
    pipe = redis.pipeline(transaction=False)
    pipe.set(WORKER + worker.name, worker.model_dump_json(), ex=ANNOUNCED_S)
    pipe.sadd(WORKERS, worker.name)
    pipe.set(CARD + card.id, card.model_dump_json(), ex=CARD_S)
    pipe.sadd(CARDS, card.id)
    for index in (WORKERS, CARDS):
        pipe.expire(index, CARD_S)
    await pipe.execute()


async def withdraw(redis: Redis, name: str) -> None:
    pipe = redis.pipeline(transaction=False)
    pipe.delete(WORKER + name)
    pipe.srem(WORKERS, name)
    await pipe.execute()


async def read(redis: Redis, queues: Sequence[str] = ()) -> Told:
    """One of infra.redis.FAULTS when Redis is away."""
    pipe = redis.pipeline(transaction=False)
    pipe.get(MARK)
    for index, key in ((WORKERS, WORKER), (CARDS, CARD)):
        pipe.sort(index, by="nosort", get=["#", key + "*"])
    for queue in queues:
        pipe.llen(queue)
    mark, *found = await pipe.execute()
    workers, cards = (dict(zip(flat[::2], flat[1::2], strict=True)) for flat in found[:2])
    waiting = dict(zip(queues, found[2:], strict=True))
    await _forget(redis, {WORKERS: workers, CARDS: cards})
    return Told(workers=tuple(_workers(workers)), cards=tuple(_cards(cards)), waiting=waiting, mark=mark)


def runs_here(worker: Worker) -> bool:
    """Whether it is a process of this host's that has not ended."""
    return worker.host == socket.gethostname() and Path(f"/proc/{worker.pid}").exists()


async def _forget(redis: Redis, indexes: dict[str, dict[bytes, bytes | None]]) -> None:
    """Whose time to live has run out is still in the index."""
    for index, members in indexes.items():
        if stale := [name for name, value in members.items() if value is None]:
            await redis.srem(index, *stale)


def _workers(found: dict[bytes, bytes | None]) -> Iterator[Worker]:
    for value in filter(None, found.values()):
        try:
            yield Worker.model_validate_json(value)
        except ValidationError as error:
            log.debug("passed over an announcement: %s", error)


def _cards(found: dict[bytes, bytes | None]) -> Iterator[Card]:
    """The catalogue's own where it has one of that id."""
    for card_id, value in found.items():
        if value and (card := catalogue().get(card_id.decode()) or _card(value)):
            yield card


@lru_cache(maxsize=256)
def _card(told: bytes) -> Card | None:
    try:
        return Card.model_validate_json(told)
    except ValidationError as error:
        log.warning("a worker of another release serves a model that this one cannot read: %s", error)
        return None
