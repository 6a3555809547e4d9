"""`tram keys`: who may call?  Straight at the database, since the first key cannot be asked for with a key."""

import time
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Column, Table

from api.commands.console import console, say
from infra.database import Database
from infra.schema import migrate
from infra.settings import Settings
from models import accounts
from models.errors import NotFound

app = typer.Typer()
keys = typer.Typer(no_args_is_help=True, help="API keys.")
app.add_typer(keys, name="keys")


@keys.command("create")
def create_key(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What it is for")] = "default",
    account: Annotated[str, typer.Option(help="Account it belongs to; made if there is none of that name")] = "default",
) -> None:
    """Make a key and show it, once."""
    with _database(context.obj).transaction() as session:
        owner = accounts.account_named(session, account) or accounts.create_account(session, account, _now_ms())
        key = accounts.create_key(session, owner, name, _now_ms())
    say(key)


@keys.command("list")
def list_keys(context: typer.Context) -> None:
    """Show which keys there are, without showing them."""
    table = Table(Column("id", min_width=30), "begins", "account", "name", "created", "revoked")
    with _database(context.obj).transaction() as session:
        for key, account in accounts.keys(session):
            revoked = _day(key.revoked_ms) if key.revoked_ms else ""
            table.add_row(key.id, key.shown + "…", account, key.name, _day(key.created_ms), revoked)
    console.print(table)


@keys.command("revoke")
def revoke_key(
    context: typer.Context, key_id: Annotated[str, typer.Argument(help="As `tram keys list` shows it")]
) -> None:
    """End a key; running API processes learn of it within seconds."""
    with _database(context.obj).transaction() as session:
        revoked = accounts.revoke_key(session, key_id, _now_ms())
    if not revoked:
        raise NotFound(f"there is no key {key_id} that could be revoked", param="key_id")
    say(f"{key_id} is revoked.")


def _database(settings: Settings) -> Database:
    migrate(settings.database)
    return Database(settings.database)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _day(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
