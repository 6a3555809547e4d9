"""Objects of answers that are to go are deleted once no row names them, whichever attempt has put them, and however late."""

from functools import partial
from pathlib import Path

from infra.database import Database
from infra.objects import DirectoryStore
from infra.results import clear, key_of
from models import deletions, jobs
from models.accounts import create_account
from models.handover import Doomed, Ending
from models.lifecycle import JobState
from models.tables.jobs import Job
from tests.infra.conftest import opened
from tests.models.conftest import LOST, NOW, claimed, new_job
from workers.upkeep import Upkeep

PAST = 1


def answered(session, name="ada"):
    """A job whose first attempt died behind its object, and whose second has ended."""
    job = new_job(session, create_account(session, name, NOW))
    jobs.submit(session, [job])
    claimed(session, job.id)
    jobs.hand_back(session, job.id, 1, NOW, LOST)
    claimed(session, job.id)
    jobs.finish(session, job.id, 2, Ending(JobState.COMPLETED, NOW, result_key=key_of(job.id, 2)))
    return job.id


async def prepared(database: Database, store: DirectoryStore, name: str = "ada") -> str:
    job_id = await database.write(partial(answered, name=name))
    for attempt in (1, 2):
        await store.put(key_of(job_id, attempt), b"secret")
    return job_id


async def keys(store: DirectoryStore) -> list[str]:
    return [key async for key in store.list("")]


async def due(database: Database, job_id: str) -> int | None:
    return (await database.read(lambda session: session.get(Job, job_id))).forget_due_ms


async def test_every_attempts_object_goes_and_the_row_is_due_no_more(database, tmp_path):
    async with opened(DirectoryStore(tmp_path)) as store:
        job_id = await prepared(database, store)
        await database.write(partial(deletions.delete_job, job_id=job_id, now_ms=PAST))
        assert await due(database, job_id) == PAST
        for _ in range(2):
            assert await clear(database, store, [Doomed(job_id, 2)])
            assert (await keys(store), await due(database, job_id)) == ([], None)


class Away:
    """A store's directory whose objects cannot be reached for as long as their folder stands for itself."""

    def __init__(self, root: Path) -> None:
        self._folder, self._there = root / "results", root / "results.there"

    def __enter__(self) -> None:
        self._folder.rename(self._there)
        self._folder.symlink_to(self._folder.name)

    def __exit__(self, *_: object) -> None:
        self._folder.unlink()
        self._there.rename(self._folder)


async def test_a_store_that_is_away_holds_up_nothing_and_upkeep_comes_back_to_it(database, tmp_path):
    async with opened(DirectoryStore(tmp_path)) as store:
        job_id = await prepared(database, store)
        upkeep = Upkeep(database, None, None, store, None, None, None)
        with Away(tmp_path):
            await database.write(partial(deletions.delete_job, job_id=job_id, now_ms=PAST))
            assert not await clear(database, store, [Doomed(job_id, 2)])
            await upkeep.forget()
            assert await due(database, job_id) == PAST
        assert len(await keys(store)) == 2
        await upkeep.forget()
        assert (await keys(store), await due(database, job_id)) == ([], None)


async def test_however_many_are_due_none_is_left_to_the_next_round(database, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "forget", partial(jobs.forget, limit=2))
    async with opened(DirectoryStore(tmp_path)) as store:
        made = [await prepared(database, store, f"ada {number}") for number in range(5)]
        for job_id in made:
            await database.write(partial(deletions.delete_job, job_id=job_id, now_ms=PAST))
        await Upkeep(database, None, None, store, None, None, None).forget()
        assert await keys(store) == []
        assert [await due(database, job_id) for job_id in made] == [None] * 5
