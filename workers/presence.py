"""How does a worker show that it is there?  By an announcement, which it renews, and takes back when it begins to stop.

It says what the worker serves and how its engine stands.  A worker whose engine is away or starting stays announced, because it
comes back to the jobs that its queue holds meanwhile.  What it serves is the command line's decision (`worker_command` in
`api.stack`), handed over as options of Celery's own command.  Without Redis nobody can be told, and nobody can send a job either.
"""

import asyncio
import logging
import os
import socket
import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from celery import Celery, bootsteps
from click import Option
from redis.asyncio import Redis

from infra import fleet
from infra.engine import gpu, server
from infra.engine.client import EngineClient
from infra.engine.joined import software
from infra.fleet import Engine, Totals, Worker
from infra.redis import FAULTS
from models import ids
from models.cards.card import Card

BOUND_S = 3.0
"""An announcement that Redis has not taken by then is the next one's business."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Serving:
    card: Card
    joined: bool
    """The engine is somebody else's."""
    capacity: int
    """Jobs held at once."""


class Presence:
    def __init__(self, redis: "Redis", engine: EngineClient, engine_url: str, serving: Serving, gpu_name: str) -> None:
        self._redis, self._engine, self._engine_url, self._card = redis, engine, engine_url, serving.card
        self._turn = asyncio.Lock()
        self._leaving = False
        self.stuck = False
        """The engine answers, and makes no tokens."""
        self._worker = Worker(
            name=node_name(),
            host=socket.gethostname(),
            pid=os.getpid(),
            card=serving.card.id,
            capacity=serving.capacity,
            engine=Engine(joined=serving.joined),
            version=version("tramontane"),
            gpu=gpu_name,
            since=time.time(),
        )

    @property
    def name(self) -> str:
        return self._worker.name

    async def show(self, *, running: int, totals: Totals) -> None:
        engine = await self._look(self._worker.engine)
        now = {"engine": engine, "running": running, "totals": totals}
        async with self._turn:
            self._worker = self._worker.model_copy(update=now)
            if not self._leaving:
                await self._tell()

    async def withdraw(self) -> None:
        self._leaving = True
        async with self._turn:
            try:
                async with asyncio.timeout(BOUND_S):
                    await fleet.withdraw(self._redis, self.name)
            except FAULTS:
                log.info("Redis is away: this worker is forgotten by itself")

    async def _tell(self) -> None:
        try:
            async with asyncio.timeout(BOUND_S):
                await fleet.announce(self._redis, self._worker, self._card)
        except FAULTS:
            log.info("Redis is away: this worker cannot show itself")

    async def _look(self, engine: Engine) -> Engine:
        """One that comes back may be of another version."""
        ready = not self.stuck and await self._engine.is_ready()
        if ready == engine.ready:
            return engine
        if not ready:
            return engine.model_copy(update={"ready": False})
        told = await software(self._engine_url)
        if told is None:  # it has gone again
            return engine
        return engine.model_copy(update={"ready": True, "name": told[0], "version": told[1]})


def node_name() -> str:
    """Unique to one start of one process, so a lease never passes to a successor by accident."""
    return f"{socket.gethostname()[:40]}-{os.getpid()}-{ids.suffix()[-8:]}"


def gpu_of(serving: Serving) -> str:
    """The GPU that an engine of ours runs on; empty where there is none.  Asks the driver, which takes its time."""
    if serving.joined or server.device_for(serving.card, server.device()) == "cpu":
        return ""
    found = gpu.installed()
    return found.name if found else "unknown"


def take_options(app: Celery) -> None:
    """Makes `--card` and `--joined` options of the worker's command; `app.conf["tram_serving"]` holds what they said."""
    app.user_options["worker"].add(Option(["--card"], required=True, help="The card served, as JSON"))
    app.user_options["worker"].add(Option(["--joined"], is_flag=True, help="The engine is not one of ours"))
    app.steps["worker"].add(_Options)


class _Options(bootsteps.Step):  # type: ignore[misc]  # Celery has no types
    """Part of a worker's start."""

    def __init__(self, worker: Any, *, card: str, joined: bool = False, **options: Any) -> None:
        super().__init__(worker, **options)
        serving = Serving(Card.model_validate_json(card), joined, worker.concurrency)
        worker.app.conf.update(tram_serving=serving)
