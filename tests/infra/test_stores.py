"""What every process opens: all of it or nothing, and Redis may be away."""

import threading

import pytest

from infra import stores
from infra.schema import migrate
from models import accounts
from models.errors import TramError

NOBODY = "redis://127.0.0.1:1/0"


def mine() -> set[str]:
    return {thread.name for thread in threading.enumerate()} & {"database-write", "publisher"}


async def test_a_process_opens_without_redis_and_leaves_nothing_behind(tmp_path):
    database = f"sqlite:///{tmp_path / 'a.db'}"
    migrate(database)
    async with stores.opened(database_url=database, redis_url=NOBODY, objects_url=f"file:{tmp_path / 'o'}") as held:
        assert mine() == {"database-write", "publisher"}
        name = await held.database.write(lambda session: accounts.create_account(session, "x", 1))
        assert name.startswith("acct_")
        await held.objects.put("a", b"1")
        assert await held.objects.get("a") == b"1"
    assert mine() == set()


async def test_what_was_opened_before_a_failure_is_closed(tmp_path):
    (tmp_path / "taken").write_text("a file where the folder should be")
    with pytest.raises((TramError, OSError)):
        async with stores.opened(
            database_url=f"sqlite:///{tmp_path / 'a.db'}", redis_url=NOBODY, objects_url=f"file:{tmp_path / 'taken'}"
        ):
            pytest.fail("opened")
    assert mine() == set()
