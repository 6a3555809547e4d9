"""Is a job shown as it was accepted, without a look at the database that might fail?  Where no worker takes it."""

import asyncio
import time
from dataclasses import replace

import pytest

from api.acceptance import accept_all
from api.deps import State
from models.accounts import Caller
from models.errors import InvalidRequest
from models.handover import NewJob
from models.tables.jobs import Door
from tests.api.conftest import Api

ASKED = {"messages": [{"role": "user", "content": "Hello!"}], "metadata": {"order": "4711"}, "max_tokens": 5}


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/jobs", {"webhook_url": "https://example.com/hook", "deadline": int(time.time()) + 600}),
        ("/v1/jobs", {"conversation": "mine", "service_tier": "flex", "store": False}),
        ("/v1/chat/completions", {"background": True}),
    ],
    ids=["deadline", "conversation", "background"],
)
def test_what_was_accepted_is_what_is_there(api: Api, path: str, fields: dict[str, object]):
    answer = api.http.post(path, json=ASKED | fields)
    assert answer.status_code == 202, answer.text
    assert api.http.get(answer.headers["location"]).json() == answer.json()


async def test_others_have_their_turns_while_many_are_looked_at(state: State):
    turns, seen = 0, []

    class Intake:
        async def prepare(self, *_: object) -> NewJob:
            seen.append(turns)
            if len(seen) == len(chats):
                raise InvalidRequest("enough")
            return NewJob("job_x", "acct_x", Door.JOB, "m", "c", "q", 0, {}, [], [])

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    caller, chats = Caller("acct_x", "key_x", b"salt"), [dict] * 5
    waiting = asyncio.create_task(others())
    with pytest.raises(InvalidRequest, match=r"requests\[4\]"):
        await accept_all(replace(state, intake=Intake()), caller, chats)
    waiting.cancel()
    assert len(set(seen)) == len(chats)
