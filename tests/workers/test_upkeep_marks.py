"""Upkeep marks all that came, and lets others write in between."""

import asyncio

from models import jobs, marks
from models.accounts import create_account
from models.handover import Ending
from models.lifecycle import JobState
from models.listings import Window
from models.marks import Marker
from models.searches import Wanted, found
from models.tables.access import Account
from tests.models.conftest import NOW, claimed, new_job, said, spoken
from workers.upkeep import Upkeep


def talk(session, account, number):
    job = new_job(session, account, [said(f"word number {number}")])
    jobs.submit(session, [job])
    claimed(session, job.id)
    assert jobs.finish(session, job.id, 1, Ending(JobState.COMPLETED, NOW, answers=[spoken(f"answer {number}")]))


def counted(session, account):
    marker = Marker(account, session.get_one(Account, account).salt)
    return len(found(session, marker, Wanted(text="word"), Window(limit=100)).rows)


async def test_a_sweep_marks_everything_and_others_write_meanwhile(database):
    turns = 3 * marks.SWEEP_MOST + 1
    account = await database.write(lambda session: create_account(session, "ada", NOW))
    for number in range(turns):
        await database.write(lambda session, number=number: talk(session, account, number))
    upkeep = Upkeep(database, *[None] * 6)
    sweeping = asyncio.create_task(upkeep.mark())
    await database.write(lambda session: create_account(session, "bob", NOW))
    await asyncio.wait_for(sweeping, 30)
    assert await database.read(lambda session: counted(session, account)) == turns
