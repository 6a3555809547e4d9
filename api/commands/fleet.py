"""`tram workers`: which workers are there at this moment?  Read from Redis, where they announce themselves."""

import asyncio
import time
from typing import Annotated

import typer
from rich.table import Column, Table

from api.commands.console import console, say, say_json
from infra import fleet, redis
from infra.fleet import Totals, Worker
from models.errors import Unavailable

app = typer.Typer()
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400


@app.command()
def workers(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="For programs")] = False
) -> None:
    """Show the workers, what they serve and how busy they are; exit status 1 when there is none."""
    told = asyncio.run(_read(context.obj.redis))
    if as_json:
        say_json([worker.model_dump() for worker in told])
    elif told:
        console.print(_table(told))
    else:
        say("No worker shows itself; `tram worker` starts one.")
    raise typer.Exit(0 if told else 1)


async def _read(redis_url: str) -> list[Worker]:
    client = redis.client(redis_url, connections=1)
    try:
        told = await fleet.read(client)
    except redis.FAULTS as error:
        raise Unavailable(f"Redis does not answer: {error}") from error
    finally:
        await client.aclose()
    return sorted(told.workers, key=lambda worker: (worker.card, worker.name))


def _table(told: list[Worker]) -> Table:
    table = Table(
        "worker",
        "card",
        "engine",
        "ready",
        Column("running", justify="right"),
        "for",
        Column("cached", justify="right"),
    )
    for worker in told:
        ready = "[green]yes[/green]" if worker.engine.ready else "[red]no[/red]"
        load = f"{worker.running}/{worker.capacity}"
        table.add_row(worker.name, worker.card, _engine(worker), ready, load, _age(worker.since), _share(worker.totals))
    return table


def _engine(worker: Worker) -> str:
    software = f"{worker.engine.name} {worker.engine.version}".strip()
    place = "joined" if worker.engine.joined else worker.gpu
    return f"{software}, {place}" if place else software


def _age(since: float) -> str:
    """Rough, since the other host's clock may be another."""
    seconds = max(0, int(time.time() - since))
    for unit_s, unit in ((_DAY_S, "d"), (_HOUR_S, "h"), (_MINUTE_S, "min")):
        if seconds >= unit_s:
            return f"{seconds // unit_s} {unit}"
    return f"{seconds} s"


def _share(totals: Totals) -> str:
    """Of the prompt's tokens, those that the engine's prefix cache held."""
    return f"{totals.cached_tokens / totals.prompt_tokens:.0%}" if totals.prompt_tokens else ""
