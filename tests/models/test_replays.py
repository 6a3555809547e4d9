"""Which turns are asked again, with what, and how a live conversation goes on; and how each turn stands beside what it repeats."""

from types import SimpleNamespace

import pytest

from models import batches, environments, jobs, replayed, replays
from models.accounts import create_account
from models.batches import NewBatch, Settled
from models.environments import Known
from models.errors import NotFound
from models.handover import Ending
from models.lifecycle import JobState
from models.tables.batches import BatchKind, BatchRow, RowState
from models.tables.jobs import Door
from models.verdicts import Verdict, Why, judge
from models.wire.replays import Filter, ReplayRequest
from tests.models.conftest import NOW, asked, claimed, ended, new_job, row, said, spoken, submitted

HISTORY = [said("a"), said("b", "assistant"), said("c")]
SPEC = {"target_model": None, "overrides": {}, "history": "recorded", "mode": "exact", "repeats": 1}


@pytest.fixture
def conversation(session, account):
    """Two turns of one conversation, and one of another."""
    first = asked(session, account, HISTORY[:1], "b", id=f"job_{1:026}", parameters={"seed": 7})
    second = asked(session, account, HISTORY, "d", id=f"job_{2:026}")
    asked(session, account, [said("elsewhere")], "x", id=f"job_{3:026}")
    return first, second


def home(session, job):
    return row(session, job).conversation_id


def planned(session, account, job_id=None, conversation_id=None, **wanted):
    chosen = Filter(**wanted) if job_id is conversation_id is None else None
    found = replays.plan(session, account, job_id=job_id, conversation_id=conversation_id, wanted=chosen)
    return [turn.job_id for turn in found]


def begun(session, account, turns, name="rpl_1", **changes):
    """A replay with its first rows."""
    new = NewBatch(name, account, BatchKind.REPLAY, SPEC | {"turns": list(turns)} | changes, NOW)
    batches.begin(session, new)
    batch = replays.find(session, account, name)
    batches.add(session, name, replays.rows_of(session, batch))
    session.expire_all()
    return batch


def rows(session, batch, *numbers):
    return [session.get(BatchRow, (batch.id, number)) for number in numbers]


def answered(session, account, batch, number, *answers, state=JobState.COMPLETED, card="demo", **ending):
    """The row as a job that has ended."""
    (one,) = rows(session, batch, number)
    request = replays.requests(session, batch, [one])[number]
    job = new_job(
        session,
        account,
        request["messages"],
        door=Door.REPLAY,
        card=card,
        batch_id=batch.id,
        source_job_id=one.source_job_id,
        conversation_id=one.conversation_id,
        parameters={name: value for name, value in request.items() if name not in {"messages", "model"}},
    )
    batches.feed(session, batch.id, {number: job})
    claimed(session, job.id)
    assert jobs.finish(session, job.id, 1, Ending(state, NOW, answers=[*map(spoken, answers)], **ending))
    session.expire_all()
    (one,) = rows(session, batch, number)
    return Settled(one, row(session, job.id))


def judged(session, batch, settled):
    (found,) = replayed.considered(session, batch, [settled])
    return judge(found.recorded, found.replayed, found.terms), found


def test_one_turn_a_conversation_or_what_a_filter_finds(session, account, conversation):
    first, second = conversation
    assert planned(session, account, job_id=second) == [second]
    assert planned(session, account, conversation_id=home(session, first)) == [first, second]
    assert len(planned(session, account)) == 3
    assert planned(session, account, limit=1) == [f"job_{3:026}"], "the newest"


def test_filters(session, account):
    one = asked(session, account, [said("a")], "b", model="m", card="k", tag="t", meta={"x": "1"}, created_ms=NOW)
    two = asked(session, account, [said("c")], "d", model="n", meta={'"': "1"}, created_ms=NOW + 5000)
    second = NOW // 1000
    for wanted, found in (
        ({"model": "m"}, [one]),
        ({"model": "k"}, [one]),
        ({"tag": "t"}, [one]),
        ({"metadata": {"x": "1"}}, [one]),
        ({"metadata": {"x": "2"}}, []),
        ({"metadata": {'"': "1"}}, [two]),
        ({"created_after": second + 5}, [two]),
        ({"created_before": second + 5}, [one]),
        ({"created_after": second, "created_before": second + 6, "model": "n"}, [two]),
    ):
        assert planned(session, account, **wanted) == found, wanted


def test_what_was_replayed_is_left_out_but_by_its_own_name(session, account, conversation):
    batch = begun(session, account, conversation[:1])
    again = answered(session, account, batch, 0, "b").job.id
    assert planned(session, account, conversation_id=home(session, conversation[0])) == list(conversation)
    assert again not in planned(session, account)
    assert planned(session, account, job_id=again) == [again]


def test_what_is_not_stored_still_waits_or_belongs_to_another_is_not_found(session, account, conversation):
    other = create_account(session, "eve", NOW)
    for job in (submitted(session, account), ended(session, account, store=False), "job_unknown"):
        assert planned(session, account, job_id=job) == []
    assert planned(session, other, job_id=conversation[0]) == []
    assert planned(session, other, conversation_id=home(session, conversation[0])) == []
    assert planned(session, other) == []
    begun(session, account, conversation)
    assert replays.find(session, other, "rpl_1") is None


def test_each_turn_is_a_row_for_each_repeat_and_conversations_are_kept_together(session, account):
    one = asked(session, account, [said("a")], "b", id=f"job_{1:026}")
    two = asked(session, account, [said("x")], "y", id=f"job_{2:026}")
    three = asked(session, account, HISTORY, "d", id=f"job_{3:026}")
    batch = begun(session, account, [one, two, three], repeats=2)
    found = rows(session, batch, *range(6))
    assert [(each.source_job_id, each.detail["repeat"]) for each in found] == [
        (turn, repeat) for turn in (one, two, three) for repeat in (0, 1)
    ]
    assert abs(found[0].place - found[4].place) == 2, "the first and the third turn are of one conversation"
    assert (batch.total, {each.state for each in found}) == (6, {RowState.WAITING})


def test_a_request_is_made_when_its_time_has_come(session, account, conversation):
    overrides = {"system": "be brief", "temperature": 0.9, "seed": None}
    batch = begun(session, account, conversation, overrides=overrides, target_model="other")
    made = replays.requests(session, batch, rows(session, batch, 0, 1))
    system = {"role": "system", "content": "be brief"}
    assert made == {
        0: {"temperature": 0.9, "model": "other", "messages": [system, *HISTORY[:1]]},
        1: {"temperature": 0.9, "model": "other", "messages": [system, *HISTORY]},
    }
    assert [replays.request_of(session, batch.spec, name) for name in conversation] == [made[0], made[1]]
    assert [each.body for each in rows(session, batch, 0, 1)] == [{}, {}], "no prompt is stored twice"


def test_a_turn_that_is_deleted_meanwhile_has_no_request(session, account, conversation):
    batch = begun(session, account, conversation)
    row(session, conversation[0]).deleted_ms = NOW
    session.flush()
    assert set(replays.requests(session, batch, rows(session, batch, 0, 1))) == {1}
    with pytest.raises(NotFound):
        replays.request_of(session, batch.spec, conversation[0])
    assert (
        replayed.considered(session, batch, [Settled(rows(session, batch, 0)[0], row(session, conversation[0]))]) == []
    )


ONE, OTHER = Known.of({"card": "demo", "dtype": "float32"}), Known.of({"card": "demo", "dtype": "bfloat16"})


def test_a_verdict_knows_what_made_both_answers(session, account):
    for known in (ONE, OTHER):
        environments.note(session, known, NOW)
    source = asked(session, account, [said("a")], "b", parameters={"temperature": 0})
    row(session, source).environment = ONE.digest
    session.flush()
    batch = begun(session, account, [source], repeats=3)
    verdicts = [
        judged(session, batch, answered(session, account, batch, number, text, environment=environment))[0]
        for number, (text, environment) in enumerate((("b", ONE.digest), ("c", ONE.digest), ("c", OTHER.digest)))
    ]
    assert [found.verdict for found in verdicts] == [Verdict.IDENTICAL, Verdict.DIVERGED, Verdict.NOT_COMPARABLE]
    environment = next(reason for reason in verdicts[2].reasons if reason.code is Why.ENVIRONMENT)
    assert list(environment.details) == [{"fact": "dtype", "recorded": "float32", "replayed": "bfloat16"}]


def test_an_override_is_named_with_what_was_and_is(session, account):
    source = asked(session, account, [said("be long", "system"), said("a")], "b", parameters={"temperature": 0})
    batch = begun(session, account, [source], overrides={"system": "be brief", "temperature": 0, "max_tokens": 2})
    found, _ = judged(session, batch, answered(session, account, batch, 0, "b"))
    changed = next(reason for reason in found.reasons if reason.code is Why.OVERRIDDEN)
    assert list(changed.details) == [
        {"parameter": "max_tokens", "recorded": None, "replayed": 2},
        {"parameter": "system"},
    ]
    assert (found.verdict, found.comparable) == (Verdict.IDENTICAL, False)


def test_a_model_that_nobody_asked_for_is_another_environment(session, account):
    """A card that stands in for another, or a name that means another one by now."""
    for known in (ONE, OTHER):
        environments.note(session, known, NOW)
    source = asked(session, account, [said("a")], "b", parameters={"temperature": 0})
    row(session, source).environment = ONE.digest
    session.flush()
    for place, (target, verdict, why) in enumerate(
        (
            (None, Verdict.NOT_COMPARABLE, set()),
            ("mistral-small", Verdict.NOT_COMPARABLE, set()),
            ("demo", Verdict.NOT_COMPARABLE, set()),
            ("other", Verdict.DIVERGED, {Why.OVERRIDDEN}),
        )
    ):
        batch = begun(session, account, [source], name=f"rpl_{place}", target_model=target)
        settled = answered(session, account, batch, 0, "c", card="other", environment=OTHER.digest)
        found, _ = judged(session, batch, settled)
        assert found.verdict is verdict, target
        assert {reason.code for reason in found.reasons} - {Why.NOT_DETERMINISTIC} == {Why.ENVIRONMENT, *why}


def test_an_answer_that_failed_is_not_comparable(session, account, conversation):
    batch = begun(session, account, conversation[:1])
    failed = answered(session, account, batch, 0, state=JobState.FAILED, error={"message": "too long"})
    found, _ = judged(session, batch, failed)
    assert found.verdict is Verdict.NOT_COMPARABLE
    assert "too long" in found.reasons[0].message


def test_a_live_conversation_goes_on_behind_its_own_answers(session, account, conversation):
    batch = begun(session, account, conversation, history="live")
    assert batch.total == 1, "the second turn follows from the first one's answer"
    settled = answered(session, account, batch, 0, "B")
    answers = judged(session, batch, settled)[1].replayed.answers
    (new,) = replays.following(session, batch, settled.row, answers, same=True)
    assert (new.number, new.source_job_id) == (1, conversation[1])
    assert new.body == {"messages": [said("a"), said("B", "assistant"), said("c")]}
    assert new.detail == {"repeat": 0, "same_history": False}
    batches.add(session, batch.id, [new])
    request = replays.requests(session, batch, rows(session, batch, 1))[1]
    assert request["messages"] == new.body["messages"]
    second = answered(session, account, batch, 1, "d")
    found, considered = judged(session, batch, second)
    assert Why.HISTORY in {reason.code for reason in found.reasons}
    assert considered.replayed.messages_same is False
    assert replays.following(session, batch, second.row, considered.replayed.answers, same=False) == []


def test_a_live_conversation_keeps_the_system_prompt_it_was_given(session, account, conversation):
    batch = begun(session, account, conversation, history="live", overrides={"system": "be brief"})
    settled = answered(session, account, batch, 0, "b")
    (new,) = replays.following(session, batch, settled.row, [said("b", "assistant")], same=True)
    assert new.body["messages"] == [said("be brief", "system"), *HISTORY]
    assert new.detail == {"repeat": 0, "same_history": True}


def test_a_message_that_was_continued_is_said_once(session, account):
    first = asked(session, account, [said("a"), said("I be", "assistant")], "gin", id=f"job_{1:026}")
    second = asked(session, account, [said("a"), said("I begin", "assistant"), said("c")], "d", id=f"job_{2:026}")
    batch = begun(session, account, [first, second], history="live")
    settled = answered(session, account, batch, 0, "lieve")
    found = judged(session, batch, settled)[1].replayed
    (new,) = replays.following(session, batch, settled.row, found.answers, same=found.messages_same)
    assert new.body == {"messages": [said("a"), said("I believe", "assistant"), said("c")]}


@pytest.mark.parametrize(
    ("answers", "said_now", "same"),
    [(("x", "b1"), "b1", True), (("b0", "B1"), "B1", False), (("b0",), None, None)],
)
def test_a_live_conversation_goes_on_from_the_choice_that_it_went_on_from(session, account, answers, said_now, same):
    first = asked(session, account, [said("a")], "b0", "b1", id=f"job_{1:026}")
    second = asked(session, account, [said("a"), said("b1", "assistant"), said("c")], "d", id=f"job_{2:026}")
    batch = begun(session, account, [first, second], history="live")
    settled = answered(session, account, batch, 0, *answers)
    found = judged(session, batch, settled)[1].replayed
    (new,) = replays.following(session, batch, settled.row, found.answers, same=found.messages_same)
    if said_now is None:
        assert new.error["code"] == "conversation_ended", "no such choice was made"
    else:
        assert new.body == {"messages": [said("a"), said(said_now, "assistant"), said("c")]}
        assert new.detail["same_history"] is same


def test_what_follows_an_answer_that_is_missing_cannot_be_asked(session, account, conversation):
    third = asked(session, account, [*HISTORY, said("d", "assistant"), said("e")], "f", id=f"job_{9:026}")
    batch = begun(session, account, [*conversation, third], history="live")
    settled = answered(session, account, batch, 0, state=JobState.FAILED)
    stopped = replays.following(session, batch, settled.row, [], same=False)
    assert [(each.number, each.body, each.error["code"]) for each in stopped] == [
        (1, None, "conversation_ended"),
        (2, None, "conversation_ended"),
    ]
    batches.add(session, batch.id, stopped)
    told = replayed.judged(rows(session, batch, 2)[0])["judgement"]
    assert told["verdict"] == "not_comparable"
    assert "could not go on" in told["reasons"][0]["message"]


def test_turns_are_shown_in_pages_and_by_their_verdict(session, account, conversation):
    batch = begun(session, account, conversation, repeats=2)
    settled = answered(session, account, batch, 1, "z")
    found, _ = judged(session, batch, settled)
    batches.settle(session, batch.id, [1])
    batches.remember(session, batch.id, 1, {"repeat": 1, "judgement": found.told()})
    session.expire_all()
    shown = replayed.shown(session, batch, -1, 10)
    assert [each.row.number for each in shown] == [0, 1, 2, 3]
    assert ([each["content"] for each in shown[1].recorded], shown[1].replayed[0]["content"]) == (["b"], "z")
    assert [each.row.number for each in replayed.shown(session, batch, 0, 2)] == [1, 2]
    for verdict, numbers in ((found.verdict, [1]), (Verdict.PENDING, [0, 2, 3]), (Verdict.IDENTICAL, [])):
        assert [each.row.number for each in replayed.shown(session, batch, -1, 10, verdict)] == numbers
    assert len(replayed.details_of(session, batch)) == 1


def test_a_row_that_ended_without_a_comparison_says_why():
    for state, error, words in (
        (RowState.FAILED, {"message": "no room"}, "no room"),
        (RowState.COMPLETED, None, "the recorded turn is gone"),
    ):
        told = replayed.judged(SimpleNamespace(state=state, error=error, detail={"repeat": 0}))
        assert told["judgement"]["reasons"] == [{"code": "no_answer", "message": words, "details": []}]
    assert "judgement" not in replayed.judged(SimpleNamespace(state=RowState.WAITING, error=None, detail=None))


def test_the_request_names_what_a_plan_is_made_from():
    assert ReplayRequest.model_validate({"filter": {"limit": 10}}).filter.limit == 10
