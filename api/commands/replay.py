"""`tram replay`: do recorded turns come out the same again?  And, with `--since`, how does a server bear recorded traffic?

The first asks a running service, with a key, like anybody else; the exit status says whether all turns are identical.  The second reads
what was recorded straight from the database, as its operator, and sends it to any OpenAI-compatible server.
"""

import json
import re
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from api.caller import ServiceClient
from api.commands import load_test
from api.commands.console import console, say, say_json
from infra.settings import Settings
from models.comparison import Mode
from models.wire.replays import History

app = typer.Typer()
_SPAN = re.compile(r"^(?P<number>[0-9]+(\.[0-9]+)?)(?P<unit>[smhd])$")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SPEED = re.compile(r"^(?P<times>[0-9]+(\.[0-9]+)?)x?$")
_IDENTICAL, _OTHERWISE = 0, 2


@app.command()
def replay(
    context: typer.Context,
    source: Annotated[
        str, typer.Argument(help="A job (job_…), a completion (chatcmpl-…) or a conversation (conv_…)")
    ] = "",
    model: Annotated[str | None, typer.Option(help="Another model than the recorded one")] = None,
    override: Annotated[
        list[str] | None, typer.Option(help="A parameter to change, as name=JSON; may be repeated")
    ] = None,
    system: Annotated[str | None, typer.Option(help="Another system prompt")] = None,
    history: Annotated[History, typer.Option(help="A conversation's recorded history, or its own")] = History.RECORDED,
    mode: Annotated[Mode, typer.Option(help="How closely answers are compared")] = Mode.EXACT,
    repeats: Annotated[int, typer.Option(min=1, help="How often each turn is asked")] = 1,
    since: Annotated[str, typer.Option(help="Send the traffic of this last span again: 30m, 6h, 1d")] = "",
    speed: Annotated[str, typer.Option(help="With --since: how many times as fast, such as 2x")] = "1x",
    target: Annotated[str, typer.Option(help="With --since: where to, with what --key says; left out: here")] = "",
    at_once: Annotated[int, typer.Option(min=1, max=4096, help="With --since: requests open at a time")] = 64,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="With --since: requests at most")] = 10_000,
    account: Annotated[str, typer.Option(help="With --since: whose; left out: everybody's")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
    key: Annotated[str, typer.Option(envvar="TRAM_API_KEY", help="API key")] = "",
    url: Annotated[str, typer.Option(help="Where the API is; left out: here")] = "",
) -> None:
    """Ask recorded turns again and compare the answers; with --since, send recorded traffic again as a load test."""
    settings: Settings = context.obj
    if bool(source) == bool(since):
        raise typer.BadParameter("name a job, a completion or a conversation, or a span with --since")
    key = _for_target(context, key) if target else key or settings.api_key
    if since:
        where = load_test.Target(target or url or settings.url, key, model, _speed(speed), at_once)
        good = load_test.run(settings, where, _span_ms(since), limit, account, as_json=as_json)
        raise typer.Exit(_IDENTICAL if good else _OTHERWISE)
    overrides = dict(_parameter(text) for text in override or ()) | ({} if system is None else {"system": system})
    asked = {"target_model": model, "overrides": overrides, "history": history, "mode": mode, "repeats": repeats}
    client = ServiceClient(url or settings.url, key)
    view = _replayed(client, source, asked)
    turns = client.turns(view)
    if as_json:
        say_json(view | {"turns": turns})
    else:
        _show(view, turns)
    raise typer.Exit(_IDENTICAL if view["verdict"] == "identical" else _OTHERWISE)


def _for_target(context: typer.Context, key: str) -> str:
    """What was typed: the key of the environment is ours, and not for a stranger's server."""
    source = context.get_parameter_source("key")
    return key if source is not None and source.name == "COMMANDLINE" else ""


def _replayed(client: ServiceClient, source: str, asked: dict[str, Any]) -> dict[str, Any]:
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("replaying", total=None)

        def moved(view: dict[str, Any]) -> None:
            counts = view["request_counts"]
            bar.update(task, total=counts["total"], completed=counts["completed"] + counts["failed"])

        return client.replay(source, asked, moved)


def _parameter(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        raise typer.BadParameter(f"{text!r}: write name=JSON, such as temperature=0.7 or stop='[\"END\"]'") from None


def _span_ms(text: str) -> int:
    found = _SPAN.match(text)
    if not found:
        raise typer.BadParameter(f"{text!r}: write a span such as 30m, 6h or 1d")
    return int(float(found["number"]) * _UNITS_S[found["unit"]] * 1000)


def _speed(text: str) -> float:
    found = _SPEED.match(text)
    if not found or not float(found["times"]):
        raise typer.BadParameter(f"{text!r}: write a speed such as 1x, 2x or 0.5x")
    return float(found["times"])


def _show(view: dict[str, Any], turns: list[dict[str, Any]]) -> None:
    table = Table("turn", "verdict", "at token", "recorded", "replayed", "because")
    for turn in turns:
        parting = turn["first_difference"]
        shown = parting or {"token": None, "recorded": turn["source_output"], "replayed": turn["target_output"]}
        texts = [escape(str(shown[side] or "")[:60]) for side in ("recorded", "replayed")]
        where = "" if shown["token"] is None else str(shown["token"])
        because = ", ".join(reason["code"] for reason in turn["reasons"])
        table.add_row(turn["source_job_id"], turn["verdict"], where, *texts, because)
    console.print(table)
    counts = ", ".join(f"{number} {verdict}" for verdict, number in view["verdicts"].items())
    say(f"{view['id']}: {view['verdict']} ({counts})")
