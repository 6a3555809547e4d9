"""Does everybody's webhook leave, whoever else's receivers hang?  Real receivers, and the client that calls them."""

import asyncio
from contextlib import AsyncExitStack
from ipaddress import ip_network

import pytest
from sqlalchemy import select, update

from infra.clock import now_ms
from infra.objects import DirectoryStore
from infra.outbound import Outbound
from models import jobs
from models.accounts import create_account
from models.handover import Ending
from models.lifecycle import JobState
from models.tables.webhooks import Delivery, DeliveryState
from models.webhooks import SCHEDULE_S
from tests.fakes.receiver import HANG, Receiver
from tests.models.conftest import running
from workers import deliver
from workers.deliver import AT_ONCE, AT_ONCE_A_HOST, AT_ONCE_AN_ACCOUNT, Deliverer


@pytest.fixture
async def deliverer(database, tmp_path):
    outbound = Outbound([ip_network("127.0.0.0/8")])
    await outbound.open()
    made = Deliverer(database, DirectoryStore(tmp_path), outbound, "http://x")
    yield made
    await made.close()
    await outbound.close()


@pytest.fixture
async def receivers():
    """Makes receivers that hang, however often they are called, and one that does not."""
    async with AsyncExitStack() as stack:

        async def made(*, hang):
            receiver = await stack.enter_async_context(Receiver())
            receiver.script(*[HANG] * AT_ONCE if hang else ())
            return receiver

        yield made


async def account_with(database, name, receivers, count):
    """Who is to be told of so many events at each of the receivers."""

    def verb(session):
        account = create_account(session, name, now_ms())
        for receiver in receivers:
            for _ in range(count):
                job = running(session, account, webhook_url=receiver.url)
                jobs.finish(session, job, 1, Ending(JobState.COMPLETED, now_ms()))
        return account

    return await database.write(verb)


async def test_a_receiver_that_hangs_holds_its_own_places_however_much_is_due_there(database, deliverer, receivers):
    stuck, well = await receivers(hang=True), await receivers(hang=False)
    await account_with(database, "ada", [stuck], deliver._WINDOW + 10)
    await account_with(database, "bob", [well], 1)
    await deliverer.round()
    await well.next()
    for _ in range(AT_ONCE_A_HOST):
        await stuck.next()
    await deliverer.round()
    assert len(stuck.seen) == AT_ONCE_A_HOST


async def test_so_does_an_account_with_many_of_them(database, deliverer, receivers):
    stuck, well = [await receivers(hang=True) for _ in range(4)], await receivers(hang=False)
    account = await account_with(database, "ada", stuck, AT_ONCE_A_HOST)
    await account_with(database, "bob", [well], 1)
    await deliverer.round()
    await well.next()
    await deliverer.round()
    assert deliverer._accounts[account] == AT_ONCE_AN_ACCOUNT


async def test_nothing_is_kept_of_who_has_been_told(database, deliverer, receivers):
    well = await receivers(hang=False)
    await account_with(database, "ada", [well], 3)
    await deliverer.round()
    await asyncio.gather(*deliverer._sending)
    assert len(well.seen) == 3
    assert not deliverer._hosts
    assert not deliverer._accounts


async def test_an_event_that_cannot_be_made_is_given_up_in_the_end(database, deliverer, receivers, monkeypatch):
    well = await receivers(hang=False)
    await account_with(database, "ada", [well], 1)
    monkeypatch.setattr(deliver, "job_view", lambda job: {}["damaged"])
    for _ in SCHEDULE_S:
        await database.write(lambda session: session.execute(update(Delivery).values(due_ms=0)))
        await deliverer.round()
        await asyncio.gather(*deliverer._sending)
    (delivery,) = await database.read(lambda session: session.scalars(select(Delivery)).all())
    assert (delivery.state, delivery.attempts, delivery.due_ms) == (DeliveryState.FAILED, len(SCHEDULE_S), None)
    assert not well.seen
