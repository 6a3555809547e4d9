"""Is every command there, and is only its own module imported when its word is said?"""

import subprocess
import sys
from importlib import import_module

import pytest
import typer

from api import cli

WITHIN_S = 60.0
HEAVY = {"aiohttp", "sqlalchemy", "redis", "celery", "fastapi", "boto3", "alembic", "httpx2", "torch"}
LOADED = (
    "import sys; from typer.main import get_command; from api.cli import app; get_command(app).commands[{word!r}]\n"
)


@pytest.fixture(scope="module")
def root():
    return typer.main.get_command(cli.app)


def test_each_word_leads_to_a_command_of_that_name(root):
    assert [(word, command.name) for word, command in root.commands.items()] == [(word, word) for word in cli.MODULES]


def test_every_command_of_a_module_can_be_said():
    """A command that the table of words forgets could never be run."""
    for module in set(cli.MODULES.values()):
        own = typer.main.get_group(import_module(f"api.commands.{module}").app).commands
        assert set(own) == {word for word, of in cli.MODULES.items() if of == module}


def test_a_word_of_no_command_is_none(root):
    assert root.commands.get("down") is None


@pytest.mark.parametrize(("word", "needed"), [("cards", set()), ("engine", {"aiohttp"})])
def test_what_only_shows_something_starts_at_once(word, needed):
    code = LOADED.format(word=word) + f"print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, timeout=WITHIN_S, check=True)
    assert set(done.stdout.split()) == needed


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("TRAM_PORT", "x", "should be a valid integer"),
        ("TRAM_LOG_LEVEL", "loud", "debug, info, warning or error"),
        ("TRAM_REDIS_URL", "localhost:6379", "redis://"),
        ("TRAM_DATABASE_URL", "mysql://here/db", "postgresql://"),
        ("TRAM_OBJECTS_URL", "bucket", "s3://"),
        ("TRAM_ENGINE_URL", "localhost:30000", "http://"),
    ],
)
def test_a_setting_that_is_none_is_told_in_one_line(monkeypatch, capsys, name, value, says):
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["tram", "cards"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 1
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(f"tram: {name}: ")
    assert says in told
