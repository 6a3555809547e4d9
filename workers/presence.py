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
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from celery import Celery, bootsteps
from click import Option
from redis.asyncio import Redis

from infra import fleet
from infra.engine import gpu, machine, server
from infra.engine.client import EngineClient
from infra.engine.joined import Software, software
from infra.fleet import Engine, Totals, Worker
from infra.redis import FAULTS
from models import environments, ids
from models.cards.card import Card, Flag
from models.cards.fingerprint import fingerprint
from models.environments import Known

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


@dataclass(frozen=True, slots=True)
class Place:
    """What is known of where the engine runs."""

    gpu: str = ""
    """Empty where there is none, or the engine is not ours."""
    flags: Mapping[str, Flag] = field(default_factory=dict)
    """That the card gives it there; none of a joined engine's are known."""
    machine: str | None = None
    """The processor that computes, a GPU or not; None where the engine is not ours."""


class Presence:
    def __init__(self, redis: "Redis", engine: EngineClient, engine_url: str, serving: Serving, place: Place) -> None:
        self._redis, self._engine, self._engine_url, self._card = redis, engine, engine_url, serving.card
        self._place = place
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
            gpu=place.gpu,
            since=time.time(),
        )
        self.environment: Known | None = None
        """Of what the engine says from now on, like its fingerprint; None until `learn` has been called."""

    @property
    def name(self) -> str:
        return self._worker.name

    @property
    def fingerprint(self) -> str:
        """Of what the engine says from now on, once `learn` has been called."""
        return self._worker.fingerprint

    async def learn(self) -> None:
        """Which engine is it?  Asked before anything is said in its name."""
        if (told := await software(self._engine_url)) is not None:
            self._meet(told)

    async def show(self, *, running: int, totals: Totals) -> None:
        await self._look()
        self._worker = self._worker.model_copy(update={"running": running, "totals": totals})
        async with self._turn:
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

    async def _look(self) -> None:
        """One that comes back may be of another version."""
        ready = not self.stuck and await self._engine.is_ready()
        if ready == self._worker.engine.ready:
            return
        if not ready:
            self._note(ready=False)
        elif (told := await software(self._engine_url)) is not None:  # else it has gone again
            self._meet(told)
            self._note(ready=True)

    def _meet(self, told: Software) -> None:
        known = fingerprint(self._card, told.name, told.version, self._place.flags)
        self._worker = self._worker.model_copy(update={"fingerprint": known})
        flags = {**self._place.flags, **told.flags}
        met = environments.Engine(told.name, told.version, flags, told.device, self._place.machine)
        self.environment = Known.of(environments.facts_of(self._card, met, self._worker.version))
        self._note(name=told.name, version=told.version)

    def _note(self, **told: object) -> None:
        engine = self._worker.engine.model_copy(update=told)
        self._worker = self._worker.model_copy(update={"engine": engine})


def node_name() -> str:
    """Unique to one start of one process, so a lease never passes to a successor by accident."""
    return f"{socket.gethostname()[:40]}-{os.getpid()}-{ids.suffix()[-8:]}"


def place_of(serving: Serving, *, deterministic: bool = False) -> Place:
    """Asks the driver, which takes its time."""
    if serving.joined:
        return Place()
    where = server.device_for(serving.card, server.device())
    found = gpu_of(serving)
    flags = serving.card.flags_on(where, server.gpu_for(where)) | server.determinism(where, wanted=deterministic)
    return Place(found, flags, found or machine.cpu())


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
