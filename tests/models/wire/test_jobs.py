"""A job seen from outside: every state in the words of two kinds of client, times in whole seconds, nothing of ours."""

import pytest

from models.errors import EngineLost, Expired
from models.lifecycle import FINAL, JobState
from models.tables.jobs import Door, Job
from models.wire.jobs import job_view

NOW = 1_800_000_000_000


def job(**changes):
    facts = {
        "id": "job_1",
        "account_id": "acct_1",
        "door": Door.JOB,
        "model": "m",
        "card": "demo",
        "queue": "chat.demo",
    }
    facts |= {"state": JobState.QUEUED, "attempt": 1, "created_ms": NOW, "meta": {"k": "v"}, "store": True}
    facts |= {"prompt_tokens": 0, "completion_tokens": 0, "cached_tokens": 0}
    return Job(**(facts | changes))


def ended(state, **changes):
    times = {"started_ms": NOW + 250, "first_token_ms": NOW + 400, "ended_ms": NOW + 2999}
    return job(state=state, prompt_tokens=10, completion_tokens=5, cached_tokens=3, cost_micros=6, **(times | changes))


def test_a_job_that_waits_is_told_whole():
    assert job_view(job(webhook_url="https://a.b", deadline_ms=NOW + 5000)) == {
        "id": "job_1",
        "object": "job",
        "status": "queued",
        "state": "queued",
        "door": "job",
        "part_of": None,
        "modality": "text",
        "model": "m",
        "created_at": 1_800_000_000,
        "updated_at": 1_800_000_000,
        "deadline": 1_800_000_005,
        "attempt": 1,
        "cancel_requested": False,
        "metadata": {"k": "v"},
        "webhook_url": "https://a.b",
        "conversation_id": None,
        "result": None,
        "result_url": None,
        "error": None,
        "error_code": None,
        "usage": None,
        "timing": {"queued_ms": None, "ttft_ms": None, "total_ms": None},
    }


def test_a_job_that_has_its_answer_shows_it_with_what_it_took():
    told = job_view(ended(JobState.COMPLETED, conversation_id="conv_1"), {"id": "chatcmpl-1"})
    assert told["result"] == {"id": "chatcmpl-1"}
    assert (told["result_url"], told["conversation_id"], told["updated_at"]) == (
        "/v1/jobs/job_1",
        "conv_1",
        1_800_000_002,
    )
    assert told["timing"] == {"queued_ms": 250, "ttft_ms": 400, "total_ms": 2999}
    assert (told["usage"]["total_tokens"], told["usage"]["cost"]) == (15, 6e-6)
    assert (told["error"], told["error_code"]) == (None, None)


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("queued", "queued"),
        ("in_progress", "in_progress"),
        ("completed", "completed"),
        ("failed", "failed"),
        ("cancelled", "failed"),
        ("expired", "failed"),
    ],
)
def test_a_client_that_knows_two_ends_sees_one_of_them(state, status):
    told = job_view(job(state=JobState(state), started_ms=NOW + 1000))
    assert (told["state"], told["status"]) == (state, status)
    assert (told["usage"] is not None) is (state in FINAL)
    assert (told["result_url"] is not None) is (state == "completed")
    assert told["updated_at"] == 1_800_000_001


@pytest.mark.parametrize("error", [EngineLost("the worker was lost"), Expired("too late", code="own")])
def test_a_failure_is_told_in_its_own_words(error):
    told = job_view(ended(JobState.FAILED, error=error.as_json()))
    assert (told["error"], told["error_code"]) == (error.message, error.own_code)


def test_a_job_cancelled_in_the_queue_says_so():
    told = job_view(job(state=JobState.CANCELLED, ended_ms=NOW + 1, cancel_requested_ms=NOW))
    assert (told["error"], told["error_code"], told["cancel_requested"]) == ("the job was cancelled", "cancelled", True)
