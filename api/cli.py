"""The command `tram`: what can an operator do from a terminal?

It starts processes, it does not import what they run.  Settings are read here, once a command; what a command prints is for
people, through rich, and errors are one line that says what to do.
"""

import asyncio
import json
import os
import sys
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from api import stack, up
from api.caller import ServiceClient
from api.commands import accounts as accounts_commands
from infra.database import Database
from infra.engine import environment
from infra.schema import migrate
from infra.settings import Settings
from models import accounts
from models.errors import TramError

app = typer.Typer(
    no_args_is_help=True, help="Tramontane: chat jobs for a Mistral Small 24B of your own.", add_completion=False
)
keys = typer.Typer(no_args_is_help=True, help="API keys.")
engine = typer.Typer(no_args_is_help=True, help="The engine's own Python environment.")
app.add_typer(keys, name="keys")
app.add_typer(accounts_commands.accounts, name="accounts")
app.add_typer(engine, name="engine")
console = Console()
errors = Console(stderr=True)


@app.callback()
def settings(context: typer.Context) -> None:
    context.obj = Settings()


def main() -> None:
    try:
        app()
    except TramError as error:
        errors.print(f"[red]tram:[/red] {error.message}", highlight=False)
        sys.exit(1)


@app.command("up")
def up_() -> None:
    """Run everything on this machine: Redis, engine, worker, upkeep and API."""
    sys.exit(asyncio.run(up.everything(Settings(), console)))


@app.command()
def worker() -> None:
    """Run a worker with its engine; with TRAM_ENGINE_URL it joins that engine instead of starting one."""
    sys.exit(asyncio.run(up.worker(Settings(), console)))


@app.command()
def api() -> None:
    """Run the API."""
    _become(stack.api_command(Settings()))


@app.command()
def upkeep() -> None:
    """Run the upkeep: lost jobs, deadlines, webhooks."""
    _become((sys.executable, "-m", "workers.upkeep"))


@app.command("migrate")
def migrate_() -> None:
    """Bring the database to this release; the first time, create TRAM_API_KEY if it is set."""
    settings = Settings()
    migrate(settings.database)
    first = up.first_key(settings)
    console.print(f"The database is up to date.{f' First API key: {first}' if first else ''}", highlight=False)


@app.command()
def replay(
    source: Annotated[str, typer.Argument(help="A job (job_…), a completion (chatcmpl-…) or a conversation (conv_…)")],
    model: Annotated[str | None, typer.Option(help="Another model than the recorded one")] = None,
    override: Annotated[
        list[str] | None, typer.Option(help="A parameter to change, as name=JSON; may be repeated")
    ] = None,
    key: Annotated[str, typer.Option(envvar="TRAM_API_KEY", help="API key")] = "",
    url: Annotated[str, typer.Option(help="Where the API is; left out: here")] = "",
) -> None:
    """Ask recorded turns again and compare the answers."""
    settings = Settings()
    client = ServiceClient(url or settings.url, key or settings.api_key)
    with console.status("replaying"):
        view = client.replay(source, model, dict(_parameter(text) for text in override or ()))
    _show_replay(view)
    raise typer.Exit(0 if view["verdict"] == "identical" else 2)


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="What it is for")] = "default",
    account: Annotated[str, typer.Option(help="Account it belongs to; made if there is none of that name")] = "default",
) -> None:
    """Make a key and show it, once."""
    with _database().transaction() as session:
        owner = accounts.account_named(session, account) or accounts.create_account(session, account, _now_ms())
        key = accounts.create_key(session, owner, name, _now_ms())
    console.print(key, highlight=False)


@keys.command("list")
def list_keys() -> None:
    """Show which keys there are, without showing them."""
    table = Table(Column("id", min_width=30), "begins", "account", "name", "created", "revoked")
    with _database().transaction() as session:
        for key, account in accounts.keys(session):
            revoked = _day(key.revoked_ms) if key.revoked_ms else ""
            table.add_row(key.id, key.shown + "…", account, key.name, _day(key.created_ms), revoked)
    console.print(table)


@keys.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(help="As `tram keys list` shows it")]) -> None:
    """End a key; running API processes learn of it within seconds."""
    with _database().transaction() as session:
        revoked = accounts.revoke_key(session, key_id, _now_ms())
    if not revoked:
        errors.print(f"tram: there is no key {key_id} that could be revoked", highlight=False)
        raise typer.Exit(1)
    console.print(f"{key_id} is revoked.", highlight=False)


@engine.command("install")
def install_engine() -> None:
    """Build the environment SGLang runs in."""
    environment.build(Settings().engine_environment, lambda line: console.print(line, highlight=False))


def _parameter(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        raise typer.BadParameter(f"{text!r}: write name=JSON, such as temperature=0.7 or stop='[\"END\"]'") from None


def _show_replay(view: dict[str, Any]) -> None:
    table = Table("turn", "verdict", "recorded", "replayed")
    for turn in view["turns"]:
        parting = turn["first_difference"] or {"recorded": turn["source_output"], "replayed": turn["target_output"]}
        shown = [escape(str(parting[side] or "")[:60]) for side in ("recorded", "replayed")]
        table.add_row(turn["source_job_id"], turn["verdict"], *shown)
    console.print(table)
    console.print(f"{view['id']}: {view['verdict']}", highlight=False)


def _become(command: tuple[str, ...]) -> None:
    os.execv(command[0], command)  # noqa: S606 -- this process is to be that one


def _database() -> Database:
    settings = Settings()
    migrate(settings.database)
    return Database(settings.database)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _day(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
