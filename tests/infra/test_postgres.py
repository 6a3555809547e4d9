"""What does a service do whose Postgres takes what it is asked, and says nothing any more?"""

import asyncio
from collections.abc import AsyncIterator
from typing import Self

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.orm import Session

from infra import database as module
from infra import keepalive
from infra.database import Database
from models.errors import Unavailable
from tests.infra.conftest import probed_within_s

pytestmark = pytest.mark.parametrize("database_kind", ["postgres"], indirect=True)
WITHIN_S = 20.0


class Mute:
    """A host before the server, which goes on acknowledging and may fall silent."""

    def __init__(self, url: str) -> None:
        self._there = make_url(url)
        self.silent = False
        self.links: set[asyncio.Task[None]] = set()
        self._ends: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._link, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for end in self._ends:
            end.transport.abort()
        await asyncio.gather(*self.links)

    @property
    def url(self) -> str:
        here = self._there.set(host="127.0.0.1", port=self.port, query={})
        return here.render_as_string(hide_password=False)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.links.add(asyncio.current_task())
        if folder := self._there.query.get("host"):
            back, there = await asyncio.open_unix_connection(f"{folder}/.s.PGSQL.5432")
        else:
            back, there = await asyncio.open_connection(self._there.host, self._there.port or 5432)
        self._ends += [there, writer]
        await asyncio.gather(self._pump(reader, there), self._pump(back, writer))

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while piece := await source.read(65536):
            if not self.silent:
                sink.write(piece)
        sink.close()


@pytest.fixture
async def mute(database_url: str) -> AsyncIterator[Mute]:
    async with Mute(database_url) as between:
        yield between


async def test_a_server_that_never_answers_is_given_up(mute: Mute, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "ANSWER_S", 0.3)
    monkeypatch.setattr(module, "PATIENCE_S", 0.0)

    def cut_off(session: Session) -> None:
        session.execute(text("SELECT 1"))
        mute.silent = True
        session.execute(text("SELECT 2"))

    database = Database(mute.url)
    database.open()
    try:
        for ask in (database.write, database.read):
            with pytest.raises(Unavailable):
                await asyncio.wait_for(ask(cut_off), WITHIN_S)
            mute.silent = False
            assert await asyncio.wait_for(ask(lambda session: session.scalar(text("SELECT 3"))), WITHIN_S) == 3
    finally:
        await asyncio.to_thread(database.close)


async def test_a_verb_that_fails_costs_no_connection(mute: Mute):
    """Only a missing answer does."""
    database = Database(mute.url)
    database.open()
    try:
        with pytest.raises(Exception, match="division by zero"):
            await database.write(lambda session: session.scalar(text("SELECT 1/0")))
        await database.write(lambda session: session.scalar(text("SELECT 1")))
        assert len(mute.links) == 1
    finally:
        await asyncio.to_thread(database.close)


async def test_a_server_whose_host_vanishes_is_missed(mute: Mute):
    database = Database(mute.url)
    database.open()
    try:
        await database.write(lambda session: session.scalar(text("SELECT 1")))
        assert probed_within_s(mute.port) <= keepalive.IDLE_S
    finally:
        await asyncio.to_thread(database.close)
