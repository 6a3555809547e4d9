"""Is a list of answers bounded by what they hold, too?  In process, on a real database."""

from types import SimpleNamespace

import orjson
import pytest

from api.routes.completions import list_completions
from api.routes.jobs import list_jobs
from infra.results import PAGE_BYTES
from models import accounts, jobs
from models.handover import Ending
from models.ids import completion_of
from models.lifecycle import JobState
from models.listings import Window
from tests.api.requests import request_of
from tests.models.conftest import NOW, running

KEY = "sk-tram-for-the-tests-0123456789"
TEXT = "a" * (PAGE_BYTES // 2)


def answered(session):
    """Three jobs' ids; two of them fill a page."""
    account = accounts.create_account(session, "ada", NOW)
    accounts.create_key(session, account, "key", NOW, KEY)
    made = sorted(running(session, account) for _ in range(3))
    for job in made:
        result = {"completion": {"id": completion_of(job), "choices": [TEXT]}, "chunks": [], "times_ms": []}
        assert jobs.finish(session, job, 1, Ending(JobState.COMPLETED, NOW, result=result))
    return made


@pytest.fixture
async def world(database):
    return SimpleNamespace(request=request_of(database, KEY), made=await database.write(answered))


async def test_a_page_of_large_answers_ends_early_and_says_so(world):
    pages = []
    after, more = None, True
    while more:
        page = orjson.loads((await list_completions(world.request, Window(after, 100, ascending=True), None)).body)
        assert [each["choices"] for each in page["data"]] == [[TEXT]] * len(page["data"])
        pages.append([each["id"] for each in page["data"]])
        after, more = page["last_id"].replace("chatcmpl-", "job_"), page["has_more"]
    assert pages == [[completion_of(job) for job in world.made[:2]], [completion_of(world.made[2])]]


async def test_a_list_of_jobs_does_not_read_what_it_does_not_show(world, monkeypatch):
    """A hundred that wait may have four megabytes of messages each."""
    monkeypatch.setattr("models.tables.base.unpack", None)
    query = {"state_word": None, "door": None, "part_of": None, "model": None}
    times = {"created_after": None, "created_before": None}
    page = orjson.loads((await list_jobs(world.request, Window(limit=2), **query, **times)).body)
    assert [each["id"] for each in page["data"]] == world.made[:0:-1]
