"""`tram up`, `tram worker` and the like: how is what this machine runs started?

Each takes the place of this process, or supervises others; none imports what it starts.
"""

import asyncio
import os
import sys

import typer

from api import stack, up
from api.commands.console import console, say
from infra.schema import migrate
from infra.settings import Settings

app = typer.Typer()


@app.command("up")
def up_(context: typer.Context) -> None:
    """Run everything on this machine: Redis, engine, worker, upkeep and API."""
    sys.exit(asyncio.run(up.everything(context.obj, console)))


@app.command()
def worker(context: typer.Context) -> None:
    """Run a worker with its engine; with TRAM_ENGINE_URL it joins that engine instead of starting one."""
    sys.exit(asyncio.run(up.worker(context.obj, console)))


@app.command()
def api(context: typer.Context) -> None:
    """Run the API."""
    _become(stack.api_command(context.obj))


@app.command()
def upkeep() -> None:
    """Run the upkeep: lost jobs, deadlines, webhooks."""
    _become(stack.upkeep_command())


@app.command("migrate")
def migrate_(context: typer.Context) -> None:
    """Bring the database to this release; the first time, create TRAM_API_KEY if it is set."""
    settings: Settings = context.obj
    migrate(settings.database)
    first = up.first_key(settings)
    say(f"The database is up to date.{f' First API key: {first}' if first else ''}")


def _become(command: tuple[str, ...]) -> None:
    os.execv(command[0], command)  # noqa: S606 -- this process is to be that one
