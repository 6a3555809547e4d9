"""`tram cards`: which models can be served, and what is to be known of each?  Reads the packaged cards, and nothing else."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Column, Table

from api.commands.arithmetic import in_numbers, in_words
from api.commands.console import console, say_json
from models.cards.budget import budget
from models.cards.card import Card, Device, Flags, catalogue, named
from models.cards.gpus import CLASSES, Gpu

app = typer.Typer()

Place = tuple[str, Device, Gpu | None]


@app.command()
def cards(
    name: Annotated[str, typer.Argument(help="One card, by any of its names", show_default=False)] = "",
    as_json: Annotated[bool, typer.Option("--json", help="For programs")] = False,
) -> None:
    """Show which models can be served; with a name, all that is known of one."""
    if not name:
        every = list(catalogue().values())
        return say_json([_described(card) for card in every]) if as_json else console.print(_listed(every))
    card = named(name)
    return say_json(_described(card)) if as_json else _explain(card)


def _listed(cards: list[Card]) -> Table:
    whole = (Column(name, no_wrap=True) for name in ("id", "context", "offered"))
    table = Table(*whole, "on", "reads", "USD a million", box=None, pad_edge=False, collapse_padding=True)
    for card in cards:
        prices = f"{card.prices.prompt} {card.prices.completion}"
        offered = f"{card.launched} to {card.retires}" if card.retires else str(card.launched)
        known = (_places_in_words(card), " ".join(card.modalities), prices)
        table.add_row(card.id, f"{card.context_tokens:,}", offered, *known)
    return table


def _places_in_words(card: Card) -> str:
    return ", ".join("CPU" if place == "cpu" else "GPU" for place in card.devices) + (" (toy)" if card.toy else "")


def _explain(card: Card) -> None:
    table = Table(show_header=False, box=None, pad_edge=False)
    for what, told in _facts(card):
        table.add_row(f"[bold]{what}[/bold]", escape(told))
    console.print(f"[bold]{card.id}[/bold]", escape(card.description), "", table, sep="\n", highlight=False)
    for title, device, gpu in places(card):
        told = in_words(budget(card, device, gpu))
        flags = _flags_in_words(_own_flags(card, device, gpu))
        console.print(f"\n[bold]{title}[/bold]", escape(told), escape(flags), sep="\n", highlight=False)


def _facts(card: Card) -> Iterator[tuple[str, str]]:
    yield "also called", ", ".join(card.aliases) or "nothing else"
    yield "stands in for", ", ".join(card.stands_in_for) or "nothing"
    yield "weights", f"{card.weights} at {card.revision}"
    yield "chat template", card.chat_template or "the checkpoint's own"
    yield "tool calls", f"written the {card.tool_calls} way"
    yield "context", f"{card.context_tokens:,} tokens, of which at most {card.max_output_tokens:,} are the answer"
    yield "reads", ", ".join(card.modalities)
    yield "can do", ", ".join(card.capabilities)
    yield "by default", f"temperature {card.sampling.temperature}, top_p {card.sampling.top_p}"
    yield "costs", f"USD {card.prices.prompt} per million tokens of prompt, {card.prices.completion} of answer"
    yield "offered", _lifetime(card)
    yield "flags everywhere", _flags_in_words(card.flags.common)


def _lifetime(card: Card) -> str:
    until = f" until {card.retires}" if card.retires else ""
    return f"since {card.launched}{until}" + (f", then {card.successor}" if card.successor else "")


def _flags_in_words(flags: Flags) -> str:
    return " ".join(f"--{name}" if value is True else f"--{name} {value}" for name, value in flags.items())


def places(card: Card) -> Iterator[Place]:
    """Where it can be served: the CPU, each class of GPU."""
    if "cpu" in card.devices:
        yield "CPU", "cpu", None
    if "cuda" in card.devices:
        yield from ((of.title, "cuda", gpu) for gpu, of in CLASSES.items())


def _own_flags(card: Card, device: Device, gpu: Gpu | None) -> Flags:
    return {name: value for name, value in card.flags_on(device, gpu).items() if name not in card.flags.common}


def _described(card: Card) -> dict[str, Any]:
    served = {gpu or device: _place(card, device, gpu) for _, device, gpu in places(card)}
    return card.model_dump(mode="json", exclude={"flags", "concurrency"}) | {"served_on": served}


def _place(card: Card, device: Device, gpu: Gpu | None) -> dict[str, Any]:
    return {"flags": card.flags_on(device, gpu), "budget": in_numbers(budget(card, device, gpu))}
