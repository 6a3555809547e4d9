"""Which parts of the pages does the code write?  Every table that would otherwise drift: between `generated` and `end` marks.

`.venv/bin/python docs/generate.py` rewrites them; with `--check` it changes nothing and fails where a page is behind.  Relies on
the code itself for every word.  Refuses a page that asks for a part which is not made here.
"""
# ruff: noqa: INP001 -- a script, in a folder of pages

import ast
import difflib
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import typer
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

from api import cli, openapi
from api.app import create_app
from infra import telemetry
from infra.settings import Settings
from models import errors
from models.cards.budget import budget
from models.cards.card import catalogue
from models.cards.gpus import CLASSES
from models.errors import TramError
from models.lifecycle import FINAL, TRANSITIONS
from models.wire.errors import TABLE

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
PACKAGES = ("api", "workers", "models", "infra")
PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
KIND = re.compile(r"-- (\w+) {2,}(.+)")


def settings() -> str:
    rows = [
        (f"`TRAM_{name.upper()}`", f"`{field.default}`" if field.default not in {"", None} else "", field.description)
        for name, field in Settings.model_fields.items()
    ]
    return table(("variable", "default", "what it says"), rows)


def routes() -> str:
    found = [
        (f"`{method.upper()} {path}`", route["summary"], ", ".join(f"`{name}`" for name in in_query(route)))
        for path, methods in openapi.document(create_app(Settings(_env_file=None)))["paths"].items()
        for method, route in methods.items()
    ]
    return table(("route", "what it does", "query"), found)


def in_query(route: dict[str, Any]) -> list[str]:
    return [parameter["name"] for parameter in route.get("parameters", ()) if parameter["in"] == "query"]


def wire_errors() -> str:
    said = dict(KIND.findall(errors.__doc__ or ""))
    codes = codes_in_use()
    kinds = sorted(TABLE, key=lambda kind: TABLE[kind].status)
    rows = [
        (
            str(TABLE[kind].status),
            f"`{TABLE[kind].type}`",
            ", ".join(f"`{code}`" for code in [kind.code, *sorted(codes[kind.__name__] - {kind.code})]),
            "yes" if kind.retryable else "",
            said.get(kind.__name__, ""),
        )
        for kind in kinds
    ]
    return table(("status", "`type`", "`code`", "try again", "when"), rows)


def codes_in_use() -> dict[str, set[str]]:
    """Codes by the name of the error they are raised with, and those of its subclasses that have no row of their own."""
    named = {kind.__name__: kind for kind in subclasses(TramError)}
    found: dict[str, set[str]] = defaultdict(set)
    for kind in named.values():
        if kind.__module__ == errors.__name__:
            found[row_of(kind)].add(kind.code)
    for call in calls():
        kind = named.get(getattr(call.func, "id", ""))
        if kind is not None:
            found[row_of(kind)] |= {word.value.value for word in call.keywords if is_code(word)}
    return found


def row_of(kind: type[TramError]) -> str:
    return next(each.__name__ for each in kind.__mro__ if each in TABLE)


def is_code(word: ast.keyword) -> bool:
    return word.arg == "code" and isinstance(word.value, ast.Constant)


def calls() -> Iterator[ast.Call]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield from (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))


def subclasses(kind: type[TramError]) -> Iterator[type[TramError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from subclasses(child)


def states() -> str:
    steps = [f"    {before} --> {after}" for before, afters in TRANSITIONS.items() for after in sorted(afters)]
    ends = [f"    {state} --> [*]" for state in sorted(FINAL)]
    return "\n".join(("```mermaid", "stateDiagram-v2", "    [*] --> queued", *steps, *ends, "```"))


def commands() -> str:
    root = typer.main.get_command(cli.app)
    return table(("command", "what it does"), leaves(root, "tram"))


def leaves(command: Any, name: str) -> Iterator[tuple[str, str]]:
    if inner := getattr(command, "commands", None):
        for word, child in inner.items():
            yield from leaves(child, f"{name} {word}")
        return
    usage = " ".join([name, *(usage_of(parameter) for parameter in command.params)])
    yield f"`{usage}`", command.help


def usage_of(parameter: Any) -> str:
    if parameter.param_type_name == "option":
        return f"[{parameter.opts[0]}]" if parameter.is_flag else f"[{parameter.opts[0]} …]"
    return parameter.name.upper() if parameter.required else f"[{parameter.name.upper()}]"


def metrics() -> str:
    own = [metric for metric in vars(telemetry).values() if isinstance(metric, MetricWrapperBase)]
    told = [(told, labels_of(metric)) for metric in own for told in metric.describe()]
    told += [(family, labels_of(family)) for family in telemetry.FleetMetrics.describe()]
    rows = [
        (f"`{as_exposed(metric)}`", metric.type, ", ".join(f"`{label}`" for label in labels), metric.documentation)
        for metric, labels in told
    ]
    return table(("metric", "kind", "labels", "what it counts"), rows)


def as_exposed(metric: Metric) -> str:
    return metric.name + "_total" * (metric.type == "counter")


def labels_of(metric: Any) -> Sequence[str]:
    return metric._labelnames  # noqa: SLF001 -- nothing public tells


def cards() -> str:
    rows = [
        (
            f"`{card.id}`" + " (a toy)" * card.toy,
            f"{card.context_tokens:,}",
            ", ".join(card.modalities),
            ", ".join(card.devices),
            names(card.aliases),
            names(card.stands_in_for),
        )
        for card in catalogue().values()
    ]
    known = table(("card", "context, tokens", "reads", "runs on", "also answers to", "stands in for"), rows)
    return f"{known}\n\n{budgets()}"


def names(of: Sequence[str]) -> str:
    return "<br>".join(f"`{name}`" for name in of)


def budgets() -> str:
    """What each class of GPU holds of each card that needs one."""
    rows = [
        (
            f"`{card.id}`",
            of.title,
            f"{held.kv_bytes / 2**30:.1f} GiB",
            f"{held.kv_tokens:,}",
            f"{held.full_contexts:.1f}",
            str(held.running),
            str(held.concurrency),
        )
        for card in catalogue().values()
        if "cuda" in card.devices
        for gpu, of in CLASSES.items()
        for held in [budget(card, "cuda", gpu)]
    ]
    return table(("card", "GPU", "cache", "tokens", "full contexts", "run at once", "jobs a worker holds"), rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows))


PARTS = {part.__name__: part for part in (settings, routes, wire_errors, states, commands, metrics, cards)}


def renewed(text: str) -> str:
    return PART.sub(lambda found: f"{found[1]}\n{PARTS[found[2]]()}\n\n{found[3]}", text)


def main(*, check: bool) -> int:
    behind = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        new = renewed(text)
        if new == text:
            continue
        name = str(page.relative_to(ROOT))
        behind += difflib.unified_diff(text.splitlines(), new.splitlines(), name, "the code", n=0, lineterm="")
        if not check:
            page.write_text(new, encoding="utf-8")
    sys.stdout.write("\n".join(behind) + "\n" if behind else "")
    return 1 if check and behind else 0


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv))
