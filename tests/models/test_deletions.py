"""A deleted turn leaves its row and none of its words, and takes nothing from turns that share them."""

from functools import partial

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models import deletions, jobs, transcripts
from models.accounts import create_account
from models.errors import Conflict
from models.handover import Doomed, Ending
from models.imports import bring_all
from models.jobs import LEASE_MS, MAX_ATTEMPTS
from models.lifecycle import FINAL, JobState
from models.tables.jobs import Door, Job
from models.tables.transcripts import Answer, Conversation, Message, Turn
from models.wire.imported import parsed
from tests.models.conftest import (
    LOST,
    NOW,
    asked,
    claimed,
    ended,
    new_job,
    overlapping,
    row,
    running,
    said,
    spoken,
    submitted,
)

HISTORY = [said("a"), said("b", "assistant"), said("c")]


def counts(session):
    return tuple(
        session.scalar(select(func.count()).select_from(each)) for each in (Message, Turn, Answer, Conversation)
    )


def delete(session, job):
    deletions.delete_job(session, job, NOW + 1)
    session.expire_all()


def told(session, job):
    tip = session.get_one(Turn, job).prompt
    return transcripts.path(transcripts.tree_above(session, [tip]), tip)


def test_nothing_of_a_turn_is_left_but_its_row(session, account):
    job = running(session, account, [said("a secret")], parameters={"stop": ["secret"]}, meta={"topic": "secret"})
    ending = Ending(JobState.COMPLETED, NOW, result={"completion": "secret"}, answers=[], prompt_tokens=7)
    jobs.finish(session, job, 1, ending)
    delete(session, job)
    assert counts(session) == (0, 0, 0, 0)
    kept = row(session, job)
    assert "secret" not in repr([getattr(kept, column.key) for column in Job.__table__.columns])
    assert (kept.deleted_ms, kept.state, kept.prompt_tokens) == (NOW + 1, JobState.COMPLETED, 7)
    assert jobs.find(session, account, job) is None


def test_nothing_names_the_object_that_held_the_result_and_upkeep_is_told_of_it(session, account):
    job = running(session, account)
    jobs.finish(session, job, 1, Ending(JobState.COMPLETED, NOW, result_key="results/1"))
    delete(session, job)
    assert row(session, job).result_key is None
    assert jobs.forget(session, NOW + 1) == [Doomed(job, 1)]


def test_what_was_deleted_is_given_no_metadata(session, account):
    """Who changes it looked a moment before somebody deleted it."""
    job, other = ended(session, account), ended(session, account)
    delete(session, job)
    for each in (job, other):
        jobs.describe(session, each, {"topic": "secret"})
    session.expire_all()
    assert [row(session, each).meta for each in (job, other)] == [{}, {"topic": "secret"}]


@pytest.mark.parametrize("state", sorted(FINAL))
@pytest.mark.parametrize("store", [True, False])
def test_a_job_can_be_deleted_however_it_ended(session, account, state, store):
    job = ended(session, account, state, store=store)
    delete(session, job)
    assert counts(session) == (0, 0, 0, 0)


def test_what_was_imported_can_be_deleted_twice(session, account):
    """By two at once, or by a repetition whose first answer was lost: its row is gone with the first."""
    bring_all(session, account, [parsed({"messages": [said("a"), said("b", "assistant")]})], "demo", NOW)
    job = session.scalars(select(Job.id)).one()
    for _ in range(2):
        delete(session, job)
    assert counts(session) == (0, 0, 0, 0)


@pytest.mark.parametrize("place", [submitted, running])
def test_a_job_that_has_not_ended_is_not_deleted(session, account, place):
    job = place(session, account)
    with pytest.raises(AssertionError):
        deletions.delete_job(session, job, NOW)


def test_words_that_a_later_turn_stands_on_stay_until_it_goes_too(session, account):
    first, second = asked(session, account, HISTORY[:1], "b"), asked(session, account, HISTORY, "d")
    delete(session, first)
    assert counts(session) == (4, 1, 1, 1)
    assert told(session, second) == HISTORY
    delete(session, second)
    assert counts(session) == (0, 0, 0, 0)


def test_words_of_an_earlier_turn_stay_when_a_later_goes(session, account):
    first, second = asked(session, account, HISTORY[:1], "b"), asked(session, account, HISTORY, "d")
    delete(session, second)
    assert counts(session) == (2, 1, 1, 1)
    assert told(session, first) == HISTORY[:1]


def test_a_branch_goes_alone(session, account):
    asked(session, account, HISTORY[:1], "b")
    left = asked(session, account, [*HISTORY[:2], said("left")], "l")
    right = asked(session, account, [*HISTORY[:2], said("right")], "r")
    delete(session, left)
    assert told(session, right) == [*HISTORY[:2], said("right")]
    assert counts(session) == (4, 2, 2, 1)


def test_two_turns_that_said_the_same_are_deleted_one_by_one(session, account):
    one, other = asked(session, account, HISTORY[:1], "b", "x", "b"), asked(session, account, HISTORY[:1], "b")
    delete(session, one)
    assert counts(session) == (2, 1, 1, 1)
    assert told(session, other) == HISTORY[:1]
    delete(session, other)
    assert counts(session) == (0, 0, 0, 0)


def test_another_account_that_said_the_same_loses_nothing(session, account):
    other = create_account(session, "bob", NOW)
    mine, theirs = asked(session, account, HISTORY, "d"), asked(session, other, HISTORY, "d")
    delete(session, mine)
    assert told(session, theirs) == HISTORY
    assert counts(session) == (4, 1, 1, 1)


def test_a_conversation_goes_on_behind_a_turn_that_was_deleted(session, account):
    first = asked(session, account, HISTORY[:1], "b")
    delete(session, first)
    second = asked(session, account, HISTORY, "d")
    assert session.get_one(Turn, second).parent_job_id is None
    assert told(session, second) == HISTORY


@pytest.mark.parametrize("how", ["finish", "give up", "cancel"])
def test_a_job_whose_conversation_is_deleted_meanwhile_still_ends(session, account, how):
    """A replay that runs while its source is deleted; a job that could not end would hold up the sweep for all others."""
    source = asked(session, account, HISTORY[:1], "b")
    home = row(session, source).conversation_id
    job = running(session, account, HISTORY[:1], conversation_id=home, source_job_id=source, batch_id="rpl_1")
    delete(session, source)
    assert session.get(Conversation, home) is None
    if how == "finish":
        assert jobs.finish(session, job, 1, Ending(JobState.COMPLETED, NOW))
    elif how == "cancel":
        jobs.cancel(session, account, job, NOW)
        assert len(jobs.reclaim(session, NOW + LEASE_MS + 1, LOST)) == 1
    else:
        for attempt in range(1, MAX_ATTEMPTS + 1):
            assert jobs.hand_back(session, job, attempt, NOW, LOST) is not None
            if attempt < MAX_ATTEMPTS:
                claimed(session, job)
    assert row(session, job).state in FINAL
    assert told(session, job) == HISTORY[:1]


@pytest.mark.parametrize("database_kind", ["postgres"], indirect=True)  # SQLite lets one write at a time
@pytest.mark.parametrize("deleting_first", [True, False])
@pytest.mark.parametrize("named", [True, False])
def test_a_turn_that_ends_while_the_one_before_it_is_deleted_is_whole(engine, deleting_first, named):
    with Session(engine, expire_on_commit=False) as session, session.begin():
        account = create_account(session, "ada", NOW)
        first = asked(session, account, HISTORY[:1], "b")
        home = row(session, first).conversation_id
        second = running(session, account, HISTORY, conversation_id=home if named else None)
    verbs = [
        partial(deletions.delete_job, job_id=first, now_ms=NOW),
        partial(jobs.finish, job_id=second, attempt=1, ending=Ending(JobState.COMPLETED, NOW, answers=[spoken("d")])),
    ]
    assert True in overlapping(engine, *(verbs if deleting_first else verbs[::-1]))
    with Session(engine) as session:
        assert told(session, second) == HISTORY
        assert session.get(Turn, first) is None
        assert session.get(Conversation, session.get_one(Turn, second).conversation_id) is not None


def conversation_of(session, job):
    return session.get_one(Conversation, row(session, job).conversation_id)


def delete_all(session, conversation):
    deletions.check_closed(session, conversation)
    while not deletions.delete_turns(session, conversation, deletions.doomed(session, conversation.id), NOW):
        pass


@pytest.mark.parametrize("place", [submitted, running])
@pytest.mark.parametrize("how", ["by its prompt", "by id", "by name"])
def test_a_conversation_is_not_deleted_while_a_job_would_bring_it_back(session, account, place, how):
    first = asked(session, account, HISTORY[:1], "x", "b", conversation_name="mine")
    home = conversation_of(session, first)
    named = {"by id": {"conversation_id": home.id}, "by name": {"conversation_name": "mine"}}.get(how)
    job = place(session, account, **named) if named else place(session, account, HISTORY)
    doomed = deletions.doomed(session, home.id)
    for verb in (
        partial(deletions.check_closed, session, home),
        partial(deletions.delete_turns, session, home, doomed, NOW),
    ):
        with pytest.raises(Conflict) as refused:
            verb()
        assert refused.value.own_code == "still_running"
    assert counts(session) == (3, 1, 2, 1), "nothing is gone"
    if place is submitted:
        claimed(session, job)
    jobs.finish(session, job, 1, Ending(JobState.COMPLETED, NOW))
    delete_all(session, home)
    assert counts(session) == (0, 0, 0, 0)


def test_what_goes_on_elsewhere_or_records_nothing_does_not_hold_a_conversation(session, account):
    other = create_account(session, "bob", NOW)
    first = asked(session, account, HISTORY[:1], "b")
    asked(session, other, HISTORY[:1], "b")
    running(session, other, HISTORY)
    running(session, account, [said("elsewhere"), *HISTORY])
    running(session, account, HISTORY, door=Door.EVAL)
    delete_all(session, conversation_of(session, first))
    assert session.get(Turn, first) is None


def test_a_turn_that_joins_while_its_conversation_is_deleted_goes_with_it(session, account):
    first = asked(session, account, HISTORY[:1], "b")
    home = conversation_of(session, first)
    doomed = deletions.doomed(session, home.id)
    second = asked(session, account, HISTORY, "d")
    assert not deletions.delete_turns(session, home, doomed, NOW), "another turn is left"
    assert [turn.job_id for turn in deletions.doomed(session, home.id)] == [second]
    delete_all(session, home)
    assert counts(session) == (0, 0, 0, 0)


@pytest.mark.parametrize("database_kind", ["postgres"], indirect=True)  # SQLite lets one write at a time
def test_a_job_that_comes_while_its_conversation_is_deleted_is_seen(engine):
    with Session(engine, expire_on_commit=False) as session, session.begin():
        account = create_account(session, "ada", NOW)
        home = conversation_of(session, asked(session, account, HISTORY[:1], "b"))
        new = new_job(session, account, HISTORY)
        doomed = deletions.doomed(session, home.id)

    def delete_turns(session):
        with pytest.raises(Conflict):
            deletions.delete_turns(session, home, doomed, NOW)
        return "refused"

    assert overlapping(engine, partial(jobs.submit, jobs=[new]), delete_turns) == (None, "refused")
