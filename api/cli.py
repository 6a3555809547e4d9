"""The command `tram`: what can an operator do from a terminal?

One module of `api.commands` a noun, imported when its word is said: a command that only shows something starts at once.  Settings are
read here, once a command.  What a command prints is for people, through rich, and errors are one line that says what to do.
"""

import sys
from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import Any

import typer
from pydantic import ValidationError
from rich.markup import escape
from typer.core import TyperGroup

from api.commands.console import errors
from infra.settings import Settings
from models.errors import InvalidRequest, TramError

MODULES = {
    "up": "run",
    "worker": "run",
    "api": "run",
    "upkeep": "run",
    "migrate": "run",
    "replay": "replay",
    "eval": "eval",
    "conversations": "conversations",
    "batch": "batch",
    "keys": "keys",
    "accounts": "accounts",
    "workers": "fleet",
    "health": "health",
    "cards": "cards",
    "engine": "engine",
}
"""The first word of a command, and the module that has it."""


class _Imported(MutableMapping[str, Any]):
    """Commands by their first word; looking one up imports its module."""

    def __init__(self) -> None:
        self._here: dict[str, Any] = {}

    def __getitem__(self, word: str) -> Any:
        if word not in self._here:
            module = import_module(f"api.commands.{MODULES[word]}")
            self._here |= typer.main.get_group(module.app).commands
        return self._here[word]

    def __setitem__(self, word: str, command: Any) -> None:
        self._here[word] = command

    def __delitem__(self, word: str) -> None:
        del self._here[word]

    def __iter__(self) -> Iterator[str]:
        return iter(MODULES)

    def __len__(self) -> int:
        return len(MODULES)


class _Commands(TyperGroup):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = _Imported()


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    help="Tramontane: chat jobs for a Mistral Small 24B of your own.",
    add_completion=False,
)


@app.callback()
def settings(context: typer.Context) -> None:
    try:
        context.obj = Settings()
    except ValidationError as error:
        wrong = (f"TRAM_{each['loc'][0]!s}".upper() + f": {each['msg']}" for each in error.errors())
        raise InvalidRequest("; ".join(wrong)) from None


def main() -> None:
    try:
        app()
    except TramError as error:
        errors.print(f"[red]tram:[/red] {escape(error.message)}", highlight=False, soft_wrap=True)
        sys.exit(1)
