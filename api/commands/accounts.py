"""`tram accounts`: who may use how much, and what have they used?  Straight at the database, as its operator.

A change of limits is known to running API processes within seconds.  Sub-accounts are their parents' business (`/v1/sub-accounts`);
here they are named by their ids.
"""

import time
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import typer
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.commands.console import say, say_json
from infra.database import Database
from infra.schema import migrate
from infra.settings import Settings
from models import usage
from models.accounts import called, create_account, create_key, grant
from models.limits import MICROS_PER_USD, month_of
from models.tables.access import Account
from models.wire.accounts import balance_view, sub_account_view

app = typer.Typer()
accounts = typer.Typer(no_args_is_help=True, help="Accounts: limits, credits, usage.")
app.add_typer(accounts, name="accounts")

_NONE = "none"
Which = Annotated[str, typer.Option("--account", help="Name of a top-level account, or an id (acct_…)")]
Limit = Annotated[str, typer.Option(help=f"A whole number; {_NONE}: no limit")]
Usd = Annotated[str, typer.Option(help=f"USD; {_NONE}: no limit")]


@accounts.command("list")
def list_accounts(context: typer.Context) -> None:
    """Show all accounts, and what they have used."""
    with _database(context.obj).transaction() as session:
        found = session.scalars(select(Account).order_by(Account.id)).all()
        names = {account.id: account.name for account in found}
        month = month_of(_now_ms())
        rows = [_row(account, names, usage.spent(session, account.id, month)) for account in found]
    table = [("id", "name", "below", "this month", "in all", "paid in"), *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:  # no table of rich's: it would cut names to the terminal's width
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _row(account: Account, names: dict[str, str], spent: tuple[int, int]) -> tuple[str, ...]:
    name = account.name + (" (closed)" if account.closed_ms else "")
    paid = "" if account.credit_micros is None else _usd(account.credit_micros)
    return account.id, name, names.get(account.parent_id or "", ""), _usd(spent[0]), _usd(spent[1]), paid


@accounts.command()
def show(context: typer.Context, account: Which = "default") -> None:
    """Show one account's limits, balance and usage of this month, as JSON."""
    with _database(context.obj).transaction() as session:
        say_json(_described(session, called(session, account)))


@accounts.command()
def create(context: typer.Context, name: Annotated[str, typer.Argument(help="What it is to be called")]) -> None:
    """Make a top-level account and show its key, once."""
    with _database(context.obj).transaction() as session:
        key = create_key(session, create_account(session, name, _now_ms()), "first", _now_ms())
    say(key)


@accounts.command()
def credit(
    context: typer.Context,
    amount: Annotated[str, typer.Argument(help=f"USD that were paid in; {_NONE}: ask for no payment any more")],
    account: Which = "default",
) -> None:
    """Pay in credits; an account that has any stops when they are used up."""
    with _database(context.obj).transaction() as session:
        found = called(session, account)
        if amount == _NONE:
            found.credit_micros = None
            return say(f"{found.name} needs no credits.")
        paid = grant(session, found, _micros(amount))
        left = paid - usage.spent(session, found.id, month_of(_now_ms()))[1]
    return say(f"{found.name} has USD {_usd(left)} left of USD {_usd(paid)}.")


@accounts.command()
def limits(
    context: typer.Context,
    account: Which = "default",
    rpm: Limit = "",
    tpm: Limit = "",
    parallel: Limit = "",
    month_cap: Usd = "",
    total_cap: Usd = "",
    model: Annotated[list[str] | None, typer.Option(help=f"A model it may use; may be repeated; {_NONE}: all")] = None,
) -> None:
    """Set limits; what is left out stays."""
    wanted = {"requests_per_minute": rpm, "tokens_per_minute": tpm, "parallel": parallel}
    columns: dict[str, Any] = {name: _number(text) for name, text in wanted.items() if text}
    caps = {"month_cap_micros": month_cap, "total_cap_micros": total_cap}
    columns |= {name: None if text == _NONE else _micros(text) for name, text in caps.items() if text}
    if model:
        columns["models"] = None if model == [_NONE] else model
    with _database(context.obj).transaction() as session:
        found = called(session, account)
        for name, value in columns.items():
            setattr(found, name, value)
        session.flush()
        say_json(_described(session, found))


def _described(session: Session, account: Account) -> dict[str, Any]:
    spent = usage.spent(session, account.id, month_of(_now_ms()))
    own = sub_account_view(account, spent) | {"object": "account", "parent_id": account.parent_id}
    own["status"] = "closed" if account.closed_ms else "active"
    return own | {name: value for name, value in balance_view(account, spent).items() if name not in own}


def _number(text: str) -> int | None:
    if text == _NONE:
        return None
    if not text.isdecimal() or not 0 < int(text) < 1 << 31:
        raise typer.BadParameter(f"{text!r}: a whole number above 0, or {_NONE}")
    return int(text)


def _micros(text: str) -> int:
    try:
        exact = Decimal(text) * MICROS_PER_USD
    except InvalidOperation:
        exact = Decimal("NaN")
    if not exact.is_finite() or abs(exact) >= 1 << 60:
        raise typer.BadParameter(f"{text!r}: an amount of USD, such as 25.00")
    return int(exact)


def _usd(micros: int) -> str:
    return f"{micros / MICROS_PER_USD:,.2f}"


def _database(settings: Settings) -> Database:
    migrate(settings.database)
    return Database(settings.database)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
