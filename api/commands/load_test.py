"""How does `tram replay --since` send recorded traffic again?  From the database, page by page, to the target; then a table."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from rich.progress import Progress
from rich.table import Table

from api.commands.console import console, say, say_json
from api.traffic import Report, Target, send_again
from infra.clock import now_ms
from infra.database import Database
from infra.settings import Settings
from models.accounts import called
from models.traffic import Recorded, Span, count, page

__all__ = ["Target", "run"]


def run(settings: Settings, target: Target, span_ms: int, limit: int, account: str, *, as_json: bool) -> bool:
    """Whether anything was sent, and everything answered.  `account` is a name or an id; empty: everybody's."""
    database = Database(settings.database)
    database.open()
    try:
        span, total = _chosen(database, span_ms, account)
        told = asyncio.run(_sent(database, span, target, min(limit, total))).told()
    finally:
        database.close()
    if as_json:
        say_json(told)
    else:
        _show(told)
    return bool(told["sent"]) and not told["failed"]


def _chosen(database: Database, span_ms: int, account: str) -> tuple[Span, int]:
    until_ms = now_ms()
    with database.transaction() as session:
        owner = called(session, account).id if account else None
        span = Span(until_ms - span_ms, until_ms, owner)
        return span, count(session, span)


async def _sent(database: Database, span: Span, target: Target, total: int) -> Report:
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(f"sending to {target.url}", total=total)
        return await send_again(_requests(database, span, total), target, lambda _: bar.advance(task))


async def _requests(database: Database, span: Span, total: int) -> AsyncIterator[Recorded]:
    """A day's requests are never held together."""
    after = ""
    while total > 0 and (found := await database.read(partial(page, span=span, after=after))):
        for request in found[:total]:
            yield request
        total, after = total - len(found), found[-1].id


def _show(told: dict[str, Any]) -> None:
    table = Table("", "p50 ms", "p95", "p99")
    for name, words in (("ttft_ms", "first token"), ("latency_ms", "whole answer")):
        for side in ("recorded", "replayed"):
            spread = told[name][side].values()
            table.add_row(f"{words}, {side}", *("" if value is None else f"{value:,.0f}" for value in spread))
    console.print(table)
    failures = "".join(f", {number} x {what}" for what, number in told["failures"].items())
    say(
        f"sent {told['sent']} in {told['seconds']:.1f} s: {told['answered']} answered, {told['failed']} failed{failures}; "
        f"{told['late']} went out late"
    )
