"""What came in is found again, oldest first and page by page, with its prompt; what was no traffic is not."""

import pytest

from models import jobs
from models.accounts import create_account
from models.handover import Ending
from models.lifecycle import JobState
from models.tables.jobs import Door
from models.traffic import TAG, Span, count, page
from tests.models.conftest import NOW, asked, claimed, ended, new_job, row, said, submitted

DAY = Span(NOW, NOW + 86_400_000)


@pytest.fixture
def traffic(session, account):
    first = asked(session, account, [said("a")], "b", created_ms=NOW + 10, parameters={"seed": 1})
    second = asked(session, account, [said("a"), said("b", "assistant"), said("c")], "d", created_ms=NOW + 20)
    return first, second


def found(session, span=DAY, **how):
    return [each.id for each in page(session, span, **how)]


def test_requests_are_found_whole_and_in_order(session, account, traffic):
    first, second = page(session, DAY)
    assert (first.id, second.id) == traffic
    assert (first.parameters, first.model, first.created_ms) == ({"seed": 1}, "mistral-small", NOW + 10)
    assert [message["content"] for message in second.messages] == ["a", "b", "c"]
    assert (first.latency_ms, first.ttft_ms) == (-10, None)
    assert count(session, DAY) == 2


def test_they_are_read_page_by_page(session, traffic):
    assert found(session, limit=1) == [traffic[0]]
    assert found(session, after=traffic[0], limit=5) == [traffic[1]]
    assert found(session, after=traffic[1]) == []


def test_a_span_begins_with_its_first_moment_and_ends_before_its_last(session, account, traffic):
    assert found(session, Span(NOW + 10, NOW + 20)) == [traffic[0]]
    assert found(session, Span(NOW + 11, NOW + 21)) == [traffic[1]]
    assert found(session, Span(NOW, NOW + 100, account)) == list(traffic)
    assert found(session, Span(NOW, NOW + 100, create_account(session, "eve", NOW))) == []


def test_what_cannot_be_sent_again_or_was_no_traffic_is_left_out(session, account, traffic):
    submitted(session, account, created_ms=NOW + 30)
    ended(session, account, store=False, created_ms=NOW + 30)
    asked(session, account, [said("load")], "x", tag=TAG, created_ms=NOW + 30)
    for door in (Door.BATCH, Door.REPLAY, Door.EVAL):
        asked(session, account, [said("row")], "x", door=door, created_ms=NOW + 30)
    gone = asked(session, account, [said("gone")], "x", created_ms=NOW + 30)
    row(session, gone).parameters = None
    session.flush()
    assert found(session) == list(traffic)
    assert count(session, DAY) == 2


def test_what_failed_was_traffic_too(session, account):
    job = new_job(session, account, [said("a")], created_ms=NOW)
    jobs.submit(session, [job])
    claimed(session, job.id)
    jobs.finish(session, job.id, 1, Ending(JobState.FAILED, NOW + 5, first_token_ms=NOW + 2))
    (only,) = page(session, DAY)
    assert (only.id, only.state, only.ttft_ms, only.latency_ms) == (job.id, JobState.FAILED, 2, 5)
