"""`tram engine`: what does the engine run in, and how will it be started?

A plan starts nothing and needs no GPU: it is the command line and the arithmetic for the GPU that is named, or for this machine's.
"""

import os
import shlex
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from api.commands.arithmetic import in_numbers, in_words
from api.commands.console import say, say_json
from infra.engine import environment, server
from infra.engine.gpu import installed
from infra.settings import Settings
from models.cards.budget import Budget, budget
from models.cards.card import PACKAGED, Card, Device, named
from models.cards.gpus import CLASSES, Gpu
from models.errors import InvalidRequest

app = typer.Typer()
engine = typer.Typer(no_args_is_help=True, help="The engine: its own Python environment, and how it is started.")
app.add_typer(engine, name="engine")

_PORT = 30000  # SGLang's own default, as an example: a worker takes a free one


@dataclass(frozen=True, slots=True)
class Place:
    """Where an engine is to run."""

    machine: Device
    title: str
    gpu: Gpu | None = None
    memory_mib: int = 0


@engine.command("install")
def install_engine(context: typer.Context) -> None:
    """Build the environment SGLang runs in on a CPU."""
    settings: Settings = context.obj
    environment.build(settings.engine_environment, say)


@engine.command("fetch")
def fetch(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="A card, by any of its names; left out: TRAM_MODEL")] = "",
) -> None:
    """Bring a model's weights into Hugging Face's cache (HF_HOME), for engines that reach nothing outside."""
    settings: Settings = context.obj
    name = model or settings.model
    card = named(name) if name else server.default_card(server.device())
    if card.weights == PACKAGED:
        say(f"{card.id} comes with tram: there is nothing to fetch.")
        raise typer.Exit
    command = (
        str(settings.engine_environment.absolute() / "bin" / "hf"),
        "download",
        card.weights,
        "--revision",
        card.revision,
    )
    os.execv(command[0], command)  # noqa: S606 -- this process is to be that one


@engine.command("plan")
def plan(
    context: typer.Context,
    gpu: Annotated[str, typer.Option(help="l40s, a100, h100 or h200; left out: this machine's")] = "",
    model: Annotated[str, typer.Option(help="A card, by any of its names; left out: TRAM_MODEL, or the default")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="For programs")] = False,
) -> None:
    """Show how the engine will be started, what its cache will hold, and how many jobs a worker takes."""
    settings: Settings = context.obj
    place = _named_place(gpu) if gpu else _this_machine()
    name = model or settings.model
    card = named(name) if name else server.default_card(place.machine)
    device = server.device_for(card, place.machine)
    if device == "cpu":
        place = Place("cpu", "CPU")
    command = server.command(card, env=settings.engine_environment, port=_PORT, device=device, gpu=place.gpu)
    held = budget(card, device, place.gpu, place.memory_mib)
    if as_json:
        return say_json(_numbers(card, place, command, held))
    say(f"{card.id} on {place.title}\n\n{_lines(command)}\n\n{in_words(held)}")
    return None


def _named_place(name: str) -> Place:
    if name.lower() not in set(Gpu):
        raise InvalidRequest(f"no flags are written for a GPU called {name!r}; there are {', '.join(Gpu)}", param="gpu")
    gpu = Gpu(name.lower())
    return Place("cuda", CLASSES[gpu].title, gpu)


def _this_machine() -> Place:
    if server.device() == "cpu":
        return Place("cpu", "CPU")
    found = installed()
    if found is None:
        raise InvalidRequest("nvidia-smi does not tell which GPU this machine has; name one with --gpu", param="gpu")
    return Place("cuda", f"{found.name}, {found.memory_mib:,} MiB", found.kind, found.memory_mib)


def _lines(command: tuple[str, ...]) -> str:
    """A flag a line, to be pasted into a shell."""
    return shlex.join(command).replace(" --", " \\\n  --")


def _numbers(card: Card, place: Place, command: tuple[str, ...], held: Budget) -> dict[str, Any]:
    return {
        "model": card.id,
        "device": place.machine,
        "gpu": place.gpu,
        "command": command,
        "variables": server.variables(card, place.machine),
        "budget": in_numbers(held),
    }
