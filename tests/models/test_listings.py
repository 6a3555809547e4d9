"""Pages: every row once, in order, nobody else's, whatever the page size."""

import pytest

from models.accounts import create_account
from models.batches import NewBatch, begin
from models.deletions import delete_job
from models.lifecycle import JobState
from models.listings import LIMIT_MOST, Window, page, tells, these
from models.tables.batches import Batch, BatchKind
from models.tables.jobs import Job
from models.tables.transcripts import Conversation
from models.tables.webhooks import Delivery
from tests.models.conftest import NOW, asked, ended, plan_of, said, submitted

TABLES = (Job, Conversation, Delivery, Batch)
HOOK = "https://example.com/hook"


def walked(session, table, account, limit, *where, ascending=False):
    """Every id, page by page."""
    found, after = [], None
    while True:
        here = page(session, table, account, Window(after, limit, ascending), *where)
        found += [row.id for row in here.rows]
        assert len(here.rows) <= limit
        if not here.has_more:
            return found
        after = found[-1]


@pytest.mark.parametrize("ascending", [False, True])
def test_a_walk_over_pages_of_any_size_meets_every_row_once(session, account, ascending):
    jobs = sorted([submitted(session, account) for _ in range(7)], reverse=not ascending)
    submitted(session, create_account(session, "bob", NOW))
    for limit in range(1, 9):
        assert walked(session, Job, account, limit, ascending=ascending) == jobs


@pytest.mark.parametrize(
    ("rows", "limit", "more"), [(0, 1, False), (1, 1, False), (2, 1, True), (3, 3, False), (4, 3, True)]
)
def test_the_last_page_knows_that_it_is_the_last(session, account, rows, limit, more):
    for _ in range(rows):
        submitted(session, account)
    found = page(session, Job, account, Window(limit=limit))
    assert (len(found.rows), found.has_more) == (min(rows, limit), more)


def test_each_table_lists_its_own_rows(session, account):
    job = asked(session, account, [said("hello")], "hi", webhook_url=HOOK)
    submitted(session, account)
    begin(session, NewBatch("rpl_1", account, BatchKind.REPLAY, {"turns": [job]}, NOW))
    other = create_account(session, "bob", NOW)
    for table, rows in zip(TABLES, (2, 1, 1, 1), strict=True):
        assert len(page(session, table, account, Window()).rows) == rows
        assert page(session, table, other, Window()).rows == []


ESCAPED = ('a"b', '"', "a\\b", "\\", 'a\\"b', "a\nb", "\x01")
"""What JSON writes otherwise."""


def test_a_list_can_be_narrowed(session, account):
    done = [ended(session, account) for _ in range(3)]
    submitted(session, account)
    ended(session, account, JobState.FAILED)
    assert walked(session, Job, account, 2, Job.state == JobState.COMPLETED) == sorted(done, reverse=True)


@pytest.mark.parametrize("key", [*("topic", "a.b", "a[0]", "$", "", "0", "a'b", "%s", "ä", "\U0001f44b"), *ESCAPED])
@pytest.mark.parametrize("value", ["x", "", "ä'\"\\\U0001f44b"])
def test_a_list_can_be_narrowed_by_metadata(session, account, key, value):
    wanted = submitted(session, account, meta={key: value, "other": "x"})
    for meta in ({}, {key: value + "?"}, {"another": value}):
        submitted(session, account, meta=meta)
    assert walked(session, Job, account, 5, tells(key, value)) == [wanted]


def test_a_page_behind_an_id_that_is_gone_goes_on_from_its_place(session, account):
    jobs = sorted(submitted(session, account) for _ in range(4))
    here = page(session, Job, account, Window(after=jobs[2][:-1], ascending=True))
    assert [row.id for row in here.rows] == [job for job in jobs if job > jobs[2][:-1]]
    assert page(session, Job, account, Window(after="zzz")).rows[0].id == jobs[3]
    assert page(session, Job, account, Window(after="")).rows == []


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("after", [None, "x_01aryz6s41"])
def test_a_page_is_an_index_range_and_never_a_sort(session, account, table, after):
    """By the query plan: no sort, no whole-table scan."""
    window = Window(after=after, limit=LIMIT_MOST)
    of_a_kind = [Batch.kind == BatchKind.REPLAY] if table is Batch else []
    plan = plan_of(session, lambda session: page(session, table, account, window, *of_a_kind))
    assert f"ix_{table.__tablename__}_list" in plan
    assert "sort" not in plan.lower()
    assert "temp b-tree" not in plan.lower()


def test_named_jobs_are_told_of_to_their_owner_alone(session, account):
    first, second = sorted(submitted(session, account) for _ in range(2))
    theirs = submitted(session, create_account(session, "bob", NOW))
    submitted(session, account)
    assert [job.id for job in these(session, account, [second, theirs, first, "job_x"])] == [first, second]
    assert these(session, account, []) == []
    gone = ended(session, account)
    delete_job(session, gone, NOW)
    assert these(session, account, [gone]) == []
