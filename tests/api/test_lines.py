"""Does a line bear the loss of the database, and does an answer that cannot be told any more go on without its caller?

Real Redis and SQLite; the Postgres that is away never was there.
"""

import asyncio
import time
from contextlib import aclosing
from dataclasses import replace
from functools import partial

import pytest
from starlette.requests import Request

from api import cancel
from api.acceptance import Accepted
from api.dialects import CHAT
from api.held import answer
from api.lines import EventStream, chat_closing, entries, whole
from infra.clock import now_ms
from infra.database import Database
from models import accounts
from models.accounts import Caller
from models.errors import EngineError
from models.lifecycle import JobState
from models.tables.jobs import Job
from models.wire.ending import StreamEnd
from models.wire.stream import DONE
from tests.models.conftest import submitted

WITHIN_S = 20.0
WAITED_FOR_S = 3.0
CHUNK = b'{"choices":[]}'
UNHEARD_OF = b'{"state":"unheard of","error":null,"completion":null,"waited_ms":null}'


@pytest.fixture
async def job_id(state):
    account = await state.database.write(partial(accounts.create_account, name="ada", now_ms=now_ms()))
    return await state.database.write(partial(submitted, account=account))


@pytest.fixture(params=[0.05, WAITED_FOR_S], ids=["given up", "waited for"])
async def cut_off(state, tmp_path, monkeypatch, request):
    """A state whose database is away; reading from it ends as `Unavailable` at once, or would in a while."""
    monkeypatch.setattr("infra.database.PATIENCE_S", request.param)
    for name, seconds in (("lines.HOLD_S", 0.02), ("lines.SILENCE_S", 0.02), ("records.LOOK_S", 0.2)):
        monkeypatch.setattr(f"api.{name}", seconds)
    away = Database(f"postgresql+psycopg://nobody@/none?host={tmp_path}")
    yield replace(state, database=away)
    await asyncio.to_thread(away.close)


class Client:
    """Holds the line, and hears what is sent."""

    def __init__(self):
        self._heard = asyncio.Queue()

    async def receive(self):
        await asyncio.Event().wait()

    async def send(self, message):
        await self._heard.put(message)

    async def hears(self):
        return await asyncio.wait_for(self._heard.get(), WITHIN_S)

    async def rest(self):
        """The bodies, up to the last."""
        told = []
        while (message := await self.hears()).get("more_body"):
            told.append(message["body"])
        return b"".join(told)


async def said_and_ended(state, job_id):
    state.writer.append(job_id, 1, 1, CHUNK)
    await state.writer.end(job_id, 1, 2, StreamEnd(JobState.COMPLETED, completion={"id": "x"}).dump())


async def test_a_silent_stream_outlives_the_database(cut_off, job_id):
    """The caller hears at once that the line is alive, and the tokens as soon as there are any."""
    client, left = Client(), []
    stream = EventStream(entries(cut_off, job_id), closing=chat_closing, headers={}, on_hang_up=lambda: left.append(1))
    began = time.monotonic()
    serving = asyncio.create_task(stream({"type": "http"}, client.receive, client.send))
    assert (await client.hears())["status"] == 200
    assert time.monotonic() - began < WAITED_FOR_S, "the look at the row is not waited for"
    await said_and_ended(cut_off, job_id)
    assert (await client.rest()).replace(b": still here\n\n", b"") == b"id: 1-1\ndata: " + CHUNK + b"\n\n" + DONE
    await serving
    assert not left


async def test_a_silent_wait_outlives_the_database(cut_off, job_id):
    waiting = asyncio.create_task(whole(cut_off, job_id))
    async with aclosing(entries(cut_off, job_id)) as beside:
        assert await anext(beside) is None  # so long is the silence, and a row could not be had
    await said_and_ended(cut_off, job_id)
    assert (await asyncio.wait_for(waiting, WITHIN_S)).completion == {"id": "x"}


async def serve(state, job_id, *, stream, stays):
    """A chat's line, from the moment its job is accepted to its answer."""
    client = Client()
    scope = {"type": "http", "method": "POST", "headers": []}
    request = Request(scope, client.receive)
    account = await state.database.read(partial(account_of, job_id=job_id))
    caller = Caller(account, "key", b"")
    response = await answer(request, state, caller, Accepted(job_id), CHAT, stream=stream, stays=stays)
    await response(scope, client.receive, client.send)


def account_of(session, job_id):
    return session.get_one(Job, job_id).account_id


def state_now(session, job_id):
    return session.get_one(Job, job_id).state


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("ending", "error", "stays", "then"),
    [
        (UNHEARD_OF, ValueError, False, JobState.CANCELLED),
        (UNHEARD_OF, ValueError, True, JobState.QUEUED),
        (StreamEnd(JobState.FAILED, EngineError("no").as_json()).dump(), EngineError, False, JobState.QUEUED),
    ],
    ids=["cannot be told", "can be come back for", "is the error"],
)
async def test_who_is_told_an_error_has_hung_up(state, job_id, stream, ending, error, stays, then):
    """Its job would run, and be paid for, while its caller asks again; what has ended is left as it is."""
    await state.writer.end(job_id, 1, 1, ending)
    with pytest.raises(error):
        await serve(state, job_id, stream=stream, stays=stays)
    await asyncio.gather(*cancel._under_way)
    assert await state.database.read(partial(state_now, job_id=job_id)) is then
