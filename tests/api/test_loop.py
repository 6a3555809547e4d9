"""Does a route let the loop go while it works something out, for those who wait for their tokens?  In process, on a real database."""

from types import SimpleNamespace

import orjson
import pytest
from sqlalchemy import select

from api.routes.conversations import list_branch, retrieve_conversation
from api.routes.transcripts import export_conversations
from infra.parquet import ParquetSheet
from models import accounts
from models.branches import Told
from models.imports import bring_all
from models.searches import Wanted
from models.tables.transcripts import Conversation
from models.wire.conversations import messages_view, whole_view
from models.wire.imported import parsed
from tests.api.requests import request_of
from tests.plugins.loops import called_here

KEY = "sk-tram-for-the-tests-0123456789"
NOW = 1_800_000_000_000
SAID = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]


def talk(session):
    """A conversation's id."""
    account = accounts.create_account(session, "ada", NOW)
    accounts.create_key(session, account, "key", NOW, KEY)
    bring_all(session, account, [parsed({"messages": SAID})], "tram-demo", NOW)
    return session.scalars(select(Conversation.id)).one()


@pytest.fixture
async def world(database):
    return SimpleNamespace(request=request_of(database, KEY), name=await database.write(talk))


async def test_a_conversation_s_branches_are_drawn_elsewhere(world):
    with called_here() as called:
        answer = await retrieve_conversation(world.request, world.name)
    assert len(orjson.loads(answer.body)["branches"]) == 1
    assert retrieve_conversation.__code__ in called
    assert whole_view.__code__ not in called


async def test_the_latest_branch_is_sought_elsewhere(world):
    with called_here() as called:
        answer = await list_branch(world.request, world.name, leaf=None, choice=0)
    assert orjson.loads(answer.body)["data"] == SAID
    assert list_branch.__code__ in called
    assert not {messages_view.__code__, Told.leaves.func.__code__} & called


async def test_a_parquet_file_is_begun_elsewhere(world):
    """The first of a process loads pyarrow."""
    with called_here() as called:
        answer = await export_conversations(world.request, Wanted(), "parquet", replays=False)
    assert b"".join([piece async for piece in answer.body_iterator])[:4] == b"PAR1"
    assert export_conversations.__code__ in called
    assert ParquetSheet.__init__.__code__ not in called
