"""`tram conversations`: which are there, and how do they go into a file or come out of one?

Over HTTP, with a key: what is exported are the conversations of that key's account.  A file is there whole or not at all.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import typer

from api.caller import ServiceClient
from api.commands.console import console, errors, say
from infra.objects.upload import upload
from infra.settings import Settings
from models.wire.imported import Format

app = typer.Typer()
conversations = typer.Typer(no_args_is_help=True, help="Conversations: into files and out of them.")
app.add_typer(conversations, name="conversations")

_PIECE_BYTES = 1 << 20
_BUCKET = "s3://"
Key = Annotated[str, typer.Option(envvar="TRAM_API_KEY", help="API key")]
Url = Annotated[str, typer.Option(help="Where the API is; left out: here")]
Form = Annotated[Format, typer.Option("--format", help="openai (JSON Lines), sharegpt (one array) or parquet")]


@conversations.command()
def export(
    context: typer.Context,
    output: Annotated[str, typer.Option("-o", "--output", help="A file, s3://bucket/key, or - for standard output")],
    form: Form = "openai",
    text: Annotated[str, typer.Option(help="Words that stand in them")] = "",
    model: Annotated[str, typer.Option(help="One that has answered in them")] = "",
    tag: Annotated[str, typer.Option(help="One of their turns'")] = "",
    status: Annotated[str, typer.Option(help="How one of their turns ended")] = "",
    metadata: Annotated[list[str] | None, typer.Option(help="name=value; may be repeated")] = None,
    replays: Annotated[bool, typer.Option("--replays", help="With branches that only a replay has said")] = False,
    key: Key = "",
    url: Url = "",
) -> None:
    """Write conversations to a file, a record a branch."""
    filters = {"text": text, "model": model, "tag": tag, "status": status}
    wanted = {name: value for name, value in filters.items() if value} | dict(_pair(each) for each in metadata or ())
    client = _client(context.obj, url, key)
    with client.export(wanted | {"format": form, "replays": replays}) as pieces:
        size = _written(output, pieces)
    errors.print(f"{size:,} bytes are in {output}", markup=False, highlight=False, soft_wrap=True)


@conversations.command("import")
def import_file(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="As `export` writes it, or a data set")],
    form: Annotated[
        Format | None, typer.Option("--format", help="openai, sharegpt or parquet; left out: by the file's name")
    ] = None,
    model: Annotated[str, typer.Option(help="Of answers that do not say who gave them")] = "",
    key: Key = "",
    url: Url = "",
) -> None:
    """Bring in the conversations of a file; those that are there already are not brought again."""
    wanted: dict[str, Any] = {"format": form or _form_of(file)} | ({"model": model} if model else {})
    with console.status("importing"):
        told = _client(context.obj, url, key).bring(_pieces(file), wanted)
    brought = ", ".join(f"{told[name]} {name}" for name in ("conversations", "turns", "messages"))
    held = f"; {told['held']} records were here already" if told["held"] else ""
    say(f"{brought} are new{held}")


def _client(settings: Settings, url: str, key: str) -> ServiceClient:
    return ServiceClient(url or settings.url, key or settings.api_key)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{text!r}: write name=value")
    return f"metadata[{name}]", value


def _form_of(file: Path) -> str:
    """An array of records is ShareGPT's; both kinds of JSON are told apart by their records."""
    return {".parquet": "parquet", ".json": "sharegpt"}.get(file.suffix, "openai")


def _pieces(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while piece := opened.read(_PIECE_BYTES):
            yield piece


def _written(output: str, pieces: Iterator[bytes]) -> int:
    counted = _Counted(pieces)
    if output.startswith(_BUCKET):
        upload(output, counted)
    elif output == "-":
        sys.stdout.buffer.writelines(counted)
        sys.stdout.buffer.flush()
    else:
        _put(Path(output), counted)
    return counted.bytes


def _put(target: Path, pieces: Iterator[bytes]) -> None:
    aside = target.with_name(f".{target.name}.{uuid4().hex}")
    try:
        with aside.open("wb") as file:
            file.writelines(pieces)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


class _Counted(Iterator[bytes]):
    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self.bytes = pieces, 0

    def __next__(self) -> bytes:
        piece = next(self._pieces)
        self.bytes += len(piece)
        return piece
