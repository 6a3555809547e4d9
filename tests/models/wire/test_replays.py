"""A replay seen from outside: one verdict for all its turns, and for one turn its outputs at the top."""

import pytest
from pydantic import ValidationError

from models.lifecycle import JobState
from models.tables.jobs import Job
from models.tables.replays import Replay
from models.wire.problems import explain
from models.wire.replays import Pair, ReplayRequest, replay_view

NOW = 1_800_000_000_000
COMPLETED = JobState.COMPLETED


def replay(**changes):
    facts = {"id": "rpl_1", "account_id": "acct_1", "overrides": {"seed": 1}, "turns": 1, "created_ms": NOW}
    return Replay(**(facts | changes))


def said(text):
    return None if text is None else {"role": "assistant", "content": text}


def job(name, state=COMPLETED, took_ms=700, model="m"):
    started, ended = (None, None) if state is JobState.QUEUED else (NOW + 300, NOW + 300 + took_ms)
    times = {"created_ms": NOW, "started_ms": started, "ended_ms": ended}
    return Job(id=name, state=state, model=model, cost_micros=took_ms if took_ms < 800 else 15_000, **times)


def pair(recorded="a", replayed="a", state=COMPLETED):
    return Pair(job("job_1"), job("job_2", state, 900, "other"), said(recorded), said(replayed))


PENDING, SAME, OTHER, NONE = pair(replayed=None, state=JobState.QUEUED), pair(), pair("abc", "abd"), pair(replayed=None)


def test_a_replay_of_one_turn_shows_its_outputs_at_the_top():
    told = replay_view(replay(source_job_id="job_1", target_model="other"), [OTHER])
    difference = {"position": 2, "recorded": "abc", "replayed": "abd"}
    top = {"source_output": "abc", "target_output": "abd", "latency_source_ms": 700, "latency_target_ms": 900}
    top |= {"cost_source_cents": 0.07, "cost_target_cents": 1.5}
    assert told == {
        "id": "rpl_1",
        "object": "replay",
        "status": "completed",
        "created_at": 1_800_000_000,
        "source_request_id": "job_1",
        "source_conversation_id": None,
        "source_model": "m",
        "target_model": "other",
        "overrides": {"seed": 1},
        "verdict": "diverged",
        "verdicts": {"diverged": 1},
        **top,
        "first_difference": difference,
        "turns": [
            {
                "source_job_id": "job_1",
                "job_id": "job_2",
                "state": "completed",
                "verdict": "diverged",
                "first_difference": difference,
                **top,
            }
        ],
    }


def test_a_replay_of_several_turns_has_none_at_the_top():
    told = replay_view(replay(turns=2), [OTHER, SAME])
    assert {told[name] for name in ("source_output", "target_output", "latency_source_ms", "first_difference")} == {
        None
    }
    assert [turn["verdict"] for turn in told["turns"]] == ["diverged", "identical"]


@pytest.mark.parametrize(
    ("pairs", "verdict"),
    [
        ([SAME, SAME], "identical"),
        ([SAME, OTHER], "diverged"),
        ([SAME, NONE], "not_comparable"),
        ([NONE, OTHER], "diverged"),
        ([SAME, PENDING], "pending"),
        ([PENDING, OTHER], "pending"),
        ([PENDING], "pending"),
        ([NONE], "not_comparable"),
    ],
)
def test_the_verdict_on_all_is_the_worst(pairs, verdict):
    told = replay_view(replay(), pairs)
    assert told["verdict"] == verdict
    assert sum(told["verdicts"].values()) == len(pairs)


FAILED, RUNNING = pair(replayed=None, state=JobState.FAILED), pair(replayed=None, state=JobState.IN_PROGRESS)


@pytest.mark.parametrize(
    ("pairs", "status"),
    [
        ([PENDING, PENDING], "queued"),
        ([PENDING, SAME], "in_progress"),
        ([RUNNING], "in_progress"),
        ([SAME, FAILED], "completed"),
        ([FAILED, FAILED], "failed"),
    ],
)
def test_the_status_is_that_of_its_jobs(pairs, status):
    assert replay_view(replay(), pairs)["status"] == status


def test_a_turn_that_waits_has_no_time_and_no_output():
    (turn,) = replay_view(replay(), [PENDING])["turns"]
    assert (turn["latency_target_ms"], turn["target_output"], turn["first_difference"]) == (None, None, None)


def test_a_replay_whose_turns_are_gone_is_told_all_the_same():
    told = replay_view(replay(target_model="m"), [])
    assert (told["turns"], told["source_model"], told["target_model"]) == ([], None, "m")


@pytest.mark.parametrize("source", [{"source_request_id": "job_1"}, {"source_conversation_id": "conv_1"}])
def test_a_replay_has_one_source(source):
    assert ReplayRequest.model_validate(source | {"overrides": {"seed": None}}).target_model is None


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({}, "source_request_id"),
        ({"source_request_id": "job_1", "source_conversation_id": "conv_1"}, "source_request_id"),
        ({"source_request_id": 1}, "source_request_id"),
        ({"source_request_id": "job_1", "overrides": []}, "overrides"),
        ({"source_request_id": "job_1", "repeat": 2}, "repeat"),
    ],
)
def test_a_request_without_one_source_is_refused(asked, param):
    with pytest.raises(ValidationError) as caught:
        ReplayRequest.model_validate(asked)
    assert explain(caught.value, asked).param == param
