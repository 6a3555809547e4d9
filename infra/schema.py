"""How does a database come to this release's schema?  By Alembic, on a connection of ours, and only when somebody asks.

Apart from `infra.database`, because Alembic takes longer to import than all else of it, and no running process needs it.
"""

from functools import partial
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine

from infra.database import connect, patiently


def migrate(url: str) -> None:
    """On SQLite the folder of the file is made if it is not there.  Processes that start together take turns.

    Raises Unavailable.
    """
    if url.startswith("sqlite:///"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    engine = connect(url, begin="BEGIN IMMEDIATE", connections=1)
    try:
        patiently(partial(_upgrade, engine))  # of two that make a SQLite file its log at once, one is told it is locked
    finally:
        engine.dispose()


def _upgrade(engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", "models:migrations")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
