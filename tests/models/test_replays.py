"""Which turns are asked again, and how they stand beside what they repeat."""

import pytest

from models import jobs, replays
from models.accounts import create_account
from models.handover import Ending
from models.lifecycle import JobState
from models.replay import Verdict
from models.replays import TURNS_MOST, NewReplay
from models.tables.jobs import Door
from tests.models.conftest import NOW, asked, claimed, ended, new_job, row, said, spoken, submitted

HISTORY = [said("a"), said("b", "assistant"), said("c")]


@pytest.fixture
def conversation(session, account):
    """Two turns of one conversation, and one of another."""
    first = asked(session, account, HISTORY[:1], "b", id=f"job_{1:026}", parameters={"seed": 7})
    second = asked(session, account, HISTORY, "d", id=f"job_{2:026}")
    asked(session, account, [said("elsewhere")], "x")
    return first, second


def home(session, job):
    return row(session, job).conversation_id


def new_replay(account, turns, name="rpl_1", **changes):
    facts = {"id": name, "account_id": account, "source_job_id": None, "source_conversation_id": None}
    return NewReplay(**(facts | {"target_model": None, "overrides": {}, "turns": turns, "created_ms": NOW} | changes))


def again(session, account, sources, name="rpl_1"):
    """A replay of these jobs, whose own jobs wait; made at once, they sort as chance will have it."""
    made = [
        new_job(
            session,
            account,
            [said("a")],
            id=f"job_{100 - number:026}",
            door=Door.REPLAY,
            batch_id=name,
            source_job_id=source,
            conversation_id=home(session, source),
        )
        for number, source in enumerate(sources)
    ]
    replays.start(session, new_replay(account, len(made), name), made)
    return [job.id for job in made]


def finish(session, job, *answers, state=JobState.COMPLETED):
    claimed(session, job)
    assert jobs.finish(session, job, 1, Ending(state, NOW, answers=[*map(spoken, answers)]))
    session.expire_all()


def test_one_turn_is_found_with_its_whole_prompt(session, account, conversation):
    (found,) = replays.recorded(session, account, job_id=conversation[1], conversation_id=None)
    assert (found.job.id, found.conversation_id) == (conversation[1], home(session, conversation[0]))
    assert found.messages == HISTORY
    assert found.job.parameters == {"temperature": 0.5}


def test_the_turns_of_a_conversation_are_found_in_order(session, account, conversation):
    found = replays.recorded(session, account, job_id=None, conversation_id=home(session, conversation[0]))
    assert [turn.job.id for turn in found] == list(conversation)
    assert [turn.messages for turn in found] == [HISTORY[:1], HISTORY]


def test_a_conversation_is_asked_again_without_what_was_replayed_in_it_and_a_replayed_turn_by_its_name(
    session, account, conversation
):
    (replayed,) = again(session, account, conversation[:1])
    finish(session, replayed, "b")
    found = replays.recorded(session, account, job_id=None, conversation_id=home(session, conversation[0]))
    assert [turn.job.id for turn in found] == list(conversation)
    assert [turn.job.id for turn in replays.recorded(session, account, job_id=replayed, conversation_id=None)] == [
        replayed
    ]


def test_what_is_not_stored_still_waits_or_belongs_to_another_is_not_found(session, account, conversation):
    other = create_account(session, "eve", NOW)
    unseen = [submitted(session, account), ended(session, account, store=False), "job_unknown"]
    for job in unseen:
        assert replays.recorded(session, account, job_id=job, conversation_id=None) == []
    assert replays.recorded(session, other, job_id=conversation[0], conversation_id=None) == []
    assert replays.recorded(session, other, job_id=None, conversation_id=home(session, conversation[0])) == []


def test_one_turn_too_many_is_enough_to_know_that_there_are_too_many(session, account, monkeypatch):
    assert TURNS_MOST == 1000
    monkeypatch.setattr(replays, "TURNS_MOST", 1)
    first = asked(session, account, [said("a")], "b")
    for text in "cde":
        asked(session, account, [said(text)], "b", conversation_id=home(session, first))
    assert len(replays.recorded(session, account, job_id=None, conversation_id=home(session, first))) == 2


def test_a_replay_is_stored_with_its_jobs(session, account, conversation):
    made = again(session, account, conversation)
    stored = replays.find(session, account, "rpl_1")
    assert (stored.turns, stored.overrides, stored.created_ms) == (2, {}, NOW)
    assert [row(session, job).state for job in made] == ["queued", "queued"]
    assert replays.find(session, create_account(session, "eve", NOW), "rpl_1") is None


def test_each_replayed_turn_stands_beside_its_source_with_the_first_choice_of_each(session, account, conversation):
    one, two = again(session, account, conversation)
    finish(session, one, "b", "not looked at")
    pairs = replays.pairs(session, "rpl_1")
    assert [(pair.source.id, pair.job.id) for pair in pairs] == [(conversation[0], one), (conversation[1], two)]
    assert (pairs[0].recorded, pairs[0].replayed) == (said("b", "assistant"), said("b", "assistant"))
    assert (pairs[1].recorded, pairs[1].replayed) == (said("d", "assistant"), None)
    assert [pair.compared().verdict for pair in pairs] == [Verdict.IDENTICAL, Verdict.PENDING]
    finish(session, two, state=JobState.FAILED)
    assert replays.pairs(session, "rpl_1")[1].compared().verdict is Verdict.NOT_COMPARABLE


def test_replays_do_not_see_one_anothers_jobs(session, account, conversation):
    again(session, account, conversation[:1])
    assert replays.pairs(session, "rpl_2") == []


def test_a_turn_whose_source_is_gone_is_left_out(session, account, conversation):
    (job,) = again(session, account, conversation[:1])
    row(session, job).source_job_id = None
    session.flush()
    assert replays.pairs(session, "rpl_1") == []
