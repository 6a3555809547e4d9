"""`tram batch`: a file of requests goes in, a file of answers comes out.  Whoever is interrupted runs the same again, and joins what runs.

The batch is found again by what the file holds, which stands in its metadata, so neither this machine nor the service has to remember
anything else.
"""

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table

from api.caller import ServiceClient
from api.commands.console import console, errors, say
from infra.settings import Settings

app = typer.Typer()
batch = typer.Typer(no_args_is_help=True, help="Batches of requests.")
app.add_typer(batch, name="batch")

MARK = "tram_batch_run"
"""The metadata's key under which the input is known again."""
ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
PAUSE_S = 1.0
SHOWN_ERRORS = 20

Key = Annotated[str, typer.Option(envvar="TRAM_API_KEY", help="API key")]
Url = Annotated[str, typer.Option(help="Where the API is; left out: here")]


@batch.command("run")
def run(
    context: typer.Context,
    source: Annotated[
        Path, typer.Argument(help="Requests, one a line, as OpenAI's batches have them", exists=True, dir_okay=False)
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where the answers go; rows without one: beside it", dir_okay=False)
    ],
    endpoint: Annotated[str, typer.Option(help="Where each row would have gone")] = "/v1/chat/completions",
    window: Annotated[str, typer.Option(help="When all must have ended: 1h to 7d")] = "24h",
    again: Annotated[bool, typer.Option("--again", help="Run it anew where it is done")] = False,
    key: Key = "",
    url: Url = "",
) -> None:
    """Run a file of requests and write the answers; run again, it joins a batch that is under way or done."""
    client = _client(context, key, url)
    mark = _mark(source, endpoint, window)
    found = next((each for each in client.batches() if _same(each, mark)), None)
    if found is not None and found["status"] == "completed" and (again or not _has_answers(client, found)):
        found = None
    if found is None:
        with console.status("uploading"):
            found = client.start_batch(client.upload(source, "batch"), endpoint, window, {MARK: mark})
    say(f"{found['id']}")
    ended = _followed(client, found["id"])
    raise typer.Exit(_kept(client, ended, output))


@batch.command("list")
def list_batches(context: typer.Context, key: Key = "", url: Url = "") -> None:
    """Show the last hundred batches."""
    table = Table(Column("id", min_width=32), "status", "rows", "completed", "failed", "window")
    for _, each in zip(range(100), _client(context, key, url).batches(), strict=False):
        counts = each["request_counts"]
        told = (str(counts[word]) for word in ("total", "completed", "failed"))
        table.add_row(each["id"], each["status"], *told, each["completion_window"])
    console.print(table)


@batch.command("cancel")
def cancel(
    context: typer.Context, batch_id: Annotated[str, typer.Argument(help="batch_…")], key: Key = "", url: Url = ""
) -> None:
    """Stop a batch; what it has answered by then is in its files."""
    say(f"{batch_id}: {_client(context, key, url).cancel_batch(batch_id)['status']}")


def _client(context: typer.Context, key: str, url: str) -> ServiceClient:
    settings: Settings = context.obj
    return ServiceClient(url or settings.url, key or settings.api_key)


def _mark(source: Path, endpoint: str, window: str) -> str:
    digest = hashlib.blake2b(f"{endpoint} {window}\n".encode(), digest_size=16)
    with source.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _same(view: dict[str, Any], mark: str) -> bool:
    """One that has come to nothing is made anew."""
    return (view["metadata"] or {}).get(MARK) == mark and view["status"] in {
        *("validating", "in_progress", "finalizing", "completed")
    }


def _files(view: dict[str, Any]) -> list[str]:
    return [file_id for file_id in (view["output_file_id"], view["error_file_id"]) if file_id is not None]


def _has_answers(client: ServiceClient, view: dict[str, Any]) -> bool:
    """Still: files are deleted, or expire."""
    return all(client.has_file(file_id) for file_id in _files(view))


def _followed(client: ServiceClient, batch_id: str) -> dict[str, Any]:
    shown = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )
    with shown:
        bar = shown.add_task("validating", total=None)
        for view in _views(client, batch_id):
            counts = view["request_counts"]
            known = None if view["status"] == "validating" else counts["total"]
            done = counts["completed"] + counts["failed"]
            shown.update(bar, description=view["status"], total=known, completed=done)
    return view


def _views(client: ServiceClient, batch_id: str) -> Iterator[dict[str, Any]]:
    """How it stands, again and again, to its end."""
    while True:
        view = client.batch(batch_id)
        yield view
        if view["status"] in ENDED:
            return
        time.sleep(PAUSE_S)


def _kept(client: ServiceClient, view: dict[str, Any], output: Path) -> int:
    """What came of it is in files now; the exit code."""
    for error in (view["errors"] or {"data": []})["data"][:SHOWN_ERRORS]:
        where = "" if error["line"] is None else f"line {error['line']}: "
        errors.print(f"{where}{error['message']}", markup=False, highlight=False, soft_wrap=True)
    failed = output.with_name(output.name + ".errors")
    for file_id, place in ((view["output_file_id"], output), (view["error_file_id"], failed)):
        if file_id is not None:
            client.download(file_id, place)
        elif _files(view):
            place.unlink(missing_ok=True)  # what an earlier run has left there is not this one's
    counts = view["request_counts"]
    say(f"{view['status']}: {counts['completed']} of {counts['total']} answered, {counts['failed']} failed")
    if counts["failed"] and view["error_file_id"]:
        say(f"those that failed, and why: {failed}")
    return 0 if view["status"] == "completed" and not counts["failed"] else 2
