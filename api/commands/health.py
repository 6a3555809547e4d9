"""`tram health`: does this host's process do its work?  For the health checks of containers: a line, and the exit status.

An API is asked over HTTP; a worker and an upkeep have no door of their own, and show themselves in Redis.  Asked every few seconds,
so it imports little.  Says nothing of other hosts: `tram workers` does.
"""

import socket
import urllib.request
from asyncio import run
from enum import StrEnum
from typing import Annotated

import typer

from api.commands.console import say
from infra import fleet, redis
from infra.settings import Settings

_BOUND_S = 3.0


app = typer.Typer()


class Part(StrEnum):
    API = "api"
    WORKER = "worker"
    UPKEEP = "upkeep"


@app.command()
def health(
    context: typer.Context,
    part: Annotated[Part, typer.Argument(help="Which process of this host's")] = Part.API,
    ready: Annotated[bool, typer.Option("--ready", help="Of a worker: its engine takes requests, too")] = False,
) -> None:
    """Say whether the API, the worker or the upkeep on this host does its work; the exit status tells."""
    problem = problem_of(context.obj, part, ready=ready)
    say(f"{part}: {problem or 'ok'}")
    raise typer.Exit(1 if problem else 0)


def problem_of(settings: Settings, part: Part, *, ready: bool) -> str | None:
    """None: there is none."""
    try:
        if part is Part.API:
            return _api(settings)
        return run(_worker(settings, ready=ready) if part is Part.WORKER else _upkeep(settings))
    except (*redis.FAULTS, TimeoutError) as error:
        return f"{type(error).__name__}: {error}"


def _api(settings: Settings) -> str | None:
    host = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host  # noqa: S104
    with urllib.request.urlopen(f"http://{host}:{settings.port}/ready", timeout=_BOUND_S):  # raises for a 503
        return None


async def _worker(settings: Settings, *, ready: bool) -> str | None:
    client = redis.client(settings.redis, connections=1)
    try:
        ours = [worker for worker in (await fleet.read(client)).workers if fleet.runs_here(worker)]
    finally:
        await client.aclose()
    if not ours:
        return "no worker of this host shows itself"
    return "its engine is not ready" if ready and not any(worker.engine.ready for worker in ours) else None


async def _upkeep(settings: Settings) -> str | None:
    client = redis.client(settings.redis, connections=1)
    try:
        return None if await client.exists(redis.UPKEEP + socket.gethostname()) else "it shows no sign of life"
    finally:
        await client.aclose()
