"""`tram replay`: do recorded turns come out the same again?"""

import json
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from api.caller import ServiceClient
from api.commands.console import console, say
from infra.settings import Settings

app = typer.Typer()


@app.command()
def replay(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="A job (job_…), a completion (chatcmpl-…) or a conversation (conv_…)")],
    model: Annotated[str | None, typer.Option(help="Another model than the recorded one")] = None,
    override: Annotated[
        list[str] | None, typer.Option(help="A parameter to change, as name=JSON; may be repeated")
    ] = None,
    key: Annotated[str, typer.Option(envvar="TRAM_API_KEY", help="API key")] = "",
    url: Annotated[str, typer.Option(help="Where the API is; left out: here")] = "",
) -> None:
    """Ask recorded turns again and compare the answers."""
    settings: Settings = context.obj
    client = ServiceClient(url or settings.url, key or settings.api_key)
    with console.status("replaying"):
        view = client.replay(source, model, dict(_parameter(text) for text in override or ()))
    _show(view)
    raise typer.Exit(0 if view["verdict"] == "identical" else 2)


def _parameter(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        raise typer.BadParameter(f"{text!r}: write name=JSON, such as temperature=0.7 or stop='[\"END\"]'") from None


def _show(view: dict[str, Any]) -> None:
    table = Table("turn", "verdict", "recorded", "replayed")
    for turn in view["turns"]:
        parting = turn["first_difference"] or {"recorded": turn["source_output"], "replayed": turn["target_output"]}
        shown = [escape(str(parting[side] or "")[:60]) for side in ("recorded", "replayed")]
        table.add_row(turn["source_job_id"], turn["verdict"], *shown)
    console.print(table)
    say(f"{view['id']}: {view['verdict']}")
