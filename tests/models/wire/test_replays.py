"""A replay seen from outside: what may be asked, one status, AIGateway's fields, and turns with all that was found out."""

import orjson
import pytest
from pydantic import ValidationError

from models.comparison import Mode
from models.replay_summary import Summary
from models.tables.batches import Batch, BatchKind, BatchRow, BatchState, RowState
from models.verdicts import Judgement, Reason, Verdict, Why
from models.wire.problems import explain
from models.wire.progress import progress_view
from models.wire.replays import TURNS_MOST, History, ReplayRequest, replay_view, turn_view
from models.wire.shapes.batches import Progress
from models.wire.shapes.replays import Replay, ReplayedTurn

NOW = 1_800_000_000_000
JOB, AGAIN = f"job_{1:026}", f"job_{2:026}"
SPEC = {
    "source_request_id": JOB,
    "source_conversation_id": None,
    "filter": None,
    "source_model": "m",
    "target_model": "other",
    "shadow": False,
    "overrides": {"seed": 1},
    "history": "recorded",
    "mode": "exact",
    "repeats": 1,
    "turns": [JOB],
}


def replay(state=BatchState.COMPLETED, **changes):
    spec = SPEC | changes.pop("spec", {})
    facts = {"id": "rpl_1", "spec": spec, "state": state, "meta": {}, "created_ms": NOW, "ended_ms": NOW + 5000}
    return Batch(**(facts | {"total": 1, "completed": 1, "failed": 0} | changes))


def row(state=RowState.COMPLETED, **changes):
    return BatchRow(**({"number": 0, "state": state, "source_job_id": JOB, "job_id": AGAIN, "detail": None} | changes))


def said(text):
    return [{"role": "assistant", "content": text}]


def detail(verdict=Verdict.DIVERGED, comparable=True, reasons=(), similarity=0.5, same_calls=None, **changes):
    found = Judgement(verdict, comparable, reasons, None, similarity, same_calls, (3, 3)).told()
    found["difference"] = {"choice": 0, "position": 2}
    measured = {"environment": "env_a", "latency_ms": 700, "ttft_ms": 70, "cost_micros": 700, "completion_tokens": 3}
    sides = {"source": measured | {"cached_tokens": 0}, "target": measured | {"latency_ms": 900, "cached_tokens": 2}}
    return {"repeat": 0, "judgement": found, "token": {"token": 1, "told_by": "stream"}} | sides | changes


TURN = turn_view(row(), detail(), said("abc"), said("abd"), "exact")


def test_a_turn_tells_what_was_said_and_where_it_parts():
    assert ReplayedTurn.model_validate(TURN, extra="forbid")
    assert TURN["first_difference"] == {
        "token": 1,
        "token_told_by": "stream",
        "choice": 0,
        "position": 2,
        "recorded": "abc",
        "replayed": "abd",
    }
    assert TURN["diff"] == [{"op": "removed", "text": "abc"}, {"op": "added", "text": "abd"}]
    assert (TURN["latency_source_ms"], TURN["latency_target_ms"], TURN["cost_source_cents"]) == (700, 900, 0.07)
    assert (TURN["ttft_source_ms"], TURN["cached_tokens_target"], TURN["environment_source"]) == (70, 2, "env_a")


def test_a_turn_that_waits_has_no_verdict_and_no_output():
    told = turn_view(row(RowState.WAITING, job_id=None), {"repeat": 3}, said("abc"), [], "exact")
    assert ReplayedTurn.model_validate(told, extra="forbid")
    assert (told["verdict"], told["comparable"], told["target_output"], told["repeat"]) == ("pending", None, None, 3)
    assert (told["latency_target_ms"], told["first_difference"], told["source_output"]) == (None, None, "abc")


def test_what_is_deleted_is_not_shown_though_judged():
    told = turn_view(row(), detail(), [], said("abd"), "exact")
    assert (told["verdict"], told["source_output"], told["diff"]) == ("diverged", None, None)
    assert (told["first_difference"]["position"], told["first_difference"]["recorded"]) == (2, None)


def test_a_replay_of_one_turn_shows_its_outputs_at_the_top():
    told = replay_view(replay(), Summary.of(1, [detail()]).output(), [TURN])
    assert Replay.model_validate(told, extra="forbid")
    for name in ("source_output", "target_output", "first_difference", "latency_source_ms", "cost_target_cents"):
        assert told[name] == TURN[name]
    assert (told["status"], told["verdict"], told["verdicts"]) == ("completed", "diverged", {"diverged": 1})
    assert (told["source_model"], told["target_model"], told["overrides"]) == ("m", "other", {"seed": 1})
    assert (told["created_at"], told["ended_at"]) == (1_800_000_000, 1_800_000_005)


def test_a_replay_of_several_turns_has_none_at_the_top():
    told = replay_view(replay(spec={"turns": [JOB, AGAIN]}, total=2), None, [TURN, TURN])
    assert {told[name] for name in ("source_output", "target_output", "latency_source_ms", "first_difference")} == {
        None
    }
    assert (len(told["turns"]), told["request_counts"]["total"]) == (2, 2)


def test_without_another_model_the_target_is_the_source():
    assert replay_view(replay(spec={"target_model": None}), None)["target_model"] == "m"


def test_while_nothing_is_known_everything_is_pending():
    told = replay_view(replay(BatchState.VALIDATING, total=0, ended_ms=None, spec={"repeats": 4}), None)
    assert (told["status"], told["verdict"], told["verdicts"]) == ("queued", "pending", {"pending": 4})
    assert (told["turns"], told["summary"], told["ended_at"]) == (None, None, None)
    assert Replay.model_validate(told, extra="forbid")


@pytest.mark.parametrize(
    ("state", "completed", "status"),
    [
        (BatchState.VALIDATING, 0, "queued"),
        (BatchState.IN_PROGRESS, 0, "in_progress"),
        (BatchState.FINALIZING, 1, "in_progress"),
        (BatchState.COMPLETED, 1, "completed"),
        (BatchState.COMPLETED, 0, "failed"),
        (BatchState.EXPIRED, 1, "completed"),
        (BatchState.CANCELLING, 0, "cancelling"),
        (BatchState.CANCELLED, 0, "cancelled"),
    ],
)
def test_the_status_is_a_word_that_clients_know(state, completed, status):
    assert replay_view(replay(state, completed=completed), None)["status"] == status


@pytest.mark.parametrize("state", BatchState)
def test_what_is_told_on_the_way_is_what_stands_under_its_id(state):
    batch = replay(state, kind=BatchKind.REPLAY, total=1, completed=0, spec={"turns": [JOB, AGAIN], "repeats": 2})
    told, shown = progress_view(batch), replay_view(batch, None)
    assert Progress.model_validate(told, extra="forbid").request_counts.total == 4
    assert {name: shown[name] for name in told} == told


@pytest.mark.parametrize("state", BatchState)
def test_of_a_file_s_batch_the_state_itself_is_told(state):
    told = progress_view(replay(state, kind=BatchKind.FILE, total=7, completed=0))
    assert (told["object"], told["status"], told["request_counts"]["total"]) == ("batch", state, 7)


SAME, NONE = detail(Verdict.IDENTICAL, similarity=1.0), detail(Verdict.NOT_COMPARABLE, comparable=False)


@pytest.mark.parametrize(
    ("planned", "details", "verdict"),
    [
        (2, [SAME, SAME], "identical"),
        (2, [SAME, detail()], "diverged"),
        (2, [SAME, NONE], "not_comparable"),
        (2, [NONE, detail()], "diverged"),
        (2, [SAME], "pending"),
        (1, [], "pending"),
        (1, [NONE], "not_comparable"),
    ],
)
def test_the_verdict_on_all_is_the_worst(planned, details, verdict):
    summary = Summary.of(planned, details)
    assert summary.verdict() == verdict
    assert sum(summary.verdicts().values()) == planned


def test_a_summary_adds_up_shares_reasons_and_what_moved():
    why = detail(Verdict.NOT_COMPARABLE, comparable=False, reasons=[Reason(Why.SAMPLED, "dice")], same_calls=True)
    told = Summary.of(4, [SAME, why, detail(target={})]).told()
    assert told["shares"] == {"diverged": 0.333333, "identical": 0.333333, "not_comparable": 0.333333}
    assert told["comparable"] == {"turns": 2, "identical": 1, "diverged": 1}
    assert told["reasons"] == {"sampled": 1}
    assert told["environments"] == {"env_a": 5}
    assert told["similarity_mean"] == pytest.approx(2 / 3, abs=1e-6)
    assert told["same_tool_calls"] == {"equal": 1}
    assert told["latency_ms"] == {"source_mean": 700, "target_mean": 900, "delta": 200}
    assert told["cached_tokens"] == {"source_total": 0, "target_total": 4, "delta": 4}
    assert told["cost_cents"] == {"source_total": 0.14, "target_total": 0.14, "delta": 0}
    assert Summary.of(1, []).told()["latency_ms"] is None


def test_turns_that_will_never_be_asked_have_no_answer():
    told = Summary.of(3, [SAME], over=True).output()
    assert (told["verdict"], told["verdicts"]) == ("not_comparable", {"identical": 1, "not_comparable": 2})
    assert told["summary"]["reasons"] == {"no_answer": 2}
    never = Judgement(Verdict.NOT_COMPARABLE, comparable=False, reasons=[Reason(Why.NO_ANSWER, "cancelled")]).told()
    told = Summary.of(3, [{"repeat": 0, "judgement": never}], over=True).output()
    assert orjson.loads(orjson.dumps(told)) == told, "as it is sent, and kept"


@pytest.mark.parametrize(
    "source", [{"source_request_id": "job_1"}, {"source_conversation_id": "conv_1"}, {"filter": {"tag": "t"}}]
)
def test_a_replay_has_one_source(source):
    asked = ReplayRequest.model_validate(source | {"overrides": {"seed": None}})
    assert (asked.model, asked.history, asked.mode, asked.repeats) == (None, History.RECORDED, Mode.EXACT, 1)


def test_words_are_taken_from_json():
    asked = {"source_conversation_id": "conv_1", "history": "live", "mode": "tools", "overrides": {"model": "m"}}
    found = ReplayRequest.model_validate(asked)
    assert (found.history, found.mode, found.model) == (History.LIVE, Mode.TOOLS, "m")


ONE = {"source_request_id": "job_1"}
FIXED = ("messages", "service_tier", "store", "conversation", "conversation_id", "background", "stream")


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({}, "source_request_id"),
        (ONE | {"source_conversation_id": "conv_1"}, "source_request_id"),
        (ONE | {"filter": {}}, "source_request_id"),
        ({"source_request_id": 1}, "source_request_id"),
        (ONE | {"overrides": []}, "overrides"),
        (ONE | {"overrides": {"system": 1}}, "overrides"),
        *((ONE | {"overrides": {name: None}}, "overrides") for name in FIXED),
        (ONE | {"target_model": "a", "overrides": {"model": "b"}}, "target_model"),
        (ONE | {"repeat": 2}, "repeat"),
        (ONE | {"repeats": 0}, "repeats"),
        (ONE | {"mode": "rough"}, "mode"),
        (ONE | {"history": "live"}, "history"),
        ({"filter": {"limit": TURNS_MOST + 1}}, "filter.limit"),
        ({"filter": {"colour": "red"}}, "filter.colour"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(asked, param):
    with pytest.raises(ValidationError) as caught:
        ReplayRequest.model_validate(asked)
    assert explain(caught.value, asked).param == param
