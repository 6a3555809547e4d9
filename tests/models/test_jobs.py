"""Every verb in every state: what it does, what it leaves alone, and what stands in the row afterwards."""

from dataclasses import replace

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import IntegrityError

from models import jobs, outbox
from models.accounts import create_account
from models.handover import Claimed, Doomed, Ending, Moved, Renewed
from models.jobs import FORGET_MS, LEASE_MS, MAX_ATTEMPTS, PUBLISH_DOUBT_MS
from models.lifecycle import FINAL, TRANSITIONS, JobState
from models.outbox import DOUBT_MOST_MS
from models.tables.jobs import Door, Job
from models.tables.transcripts import Answer, Conversation, Message, Turn
from models.tables.webhooks import Delivery, DeliveryState
from tests.models.conftest import LOST, NOW, claimed, ended, new_job, row, running, said, spoken, submitted

LATE = NOW + LEASE_MS + 1
HOOK = "https://example.com/hook"
ANSWERED = Ending(
    JobState.COMPLETED,
    NOW + 500,
    result={"completion": {"id": "chatcmpl-1"}},
    answers=[spoken("hi")],
    first_token_ms=NOW + 100,
    prompt_tokens=10,
    completion_tokens=5,
    cached_tokens=3,
)
VERBS = {
    "claim": lambda session, job: jobs.claim(session, job.id, "w2", LATE),
    "finish": lambda session, job: jobs.finish(session, job.id, job.attempt, ANSWERED),
    "fail": lambda session, job: jobs.finish(session, job.id, job.attempt, Ending(JobState.FAILED, LATE, error=LOST)),
    "stop": lambda session, job: jobs.finish(session, job.id, job.attempt, Ending(JobState.CANCELLED, LATE)),
    "time out": lambda session, job: jobs.finish(session, job.id, job.attempt, Ending(JobState.EXPIRED, LATE)),
    "hand back": lambda session, job: jobs.hand_back(session, job.id, job.attempt, LATE, LOST),
    "reclaim": lambda session, job: jobs.reclaim(session, LATE, LOST),
    "cancel": lambda session, job: jobs.cancel(session, job.account_id, job.id, LATE),
    "expire": lambda session, job: jobs.expire_queued(session, LATE, LOST),
}
STEPS = {
    ("queued", "claim"): "in_progress",
    ("queued", "cancel"): "cancelled",
    ("in_progress", "finish"): "completed",
    ("in_progress", "fail"): "failed",
    ("in_progress", "stop"): "cancelled",
    ("in_progress", "time out"): "expired",
    ("in_progress", "hand back"): "queued",
    ("in_progress", "reclaim"): "queued",
    ("late", "cancel"): "cancelled",
    ("late", "expire"): "expired",
}


def stands(session, account, state):
    """A job in that state; `late` is queued and past its deadline."""
    if state == "late":
        return submitted(session, account, deadline_ms=NOW + 1)
    if state == "queued":
        return submitted(session, account)
    return running(session, account) if state == "in_progress" else ended(session, account, JobState(state))


def facts(job):
    return {column.key: getattr(job, column.key) for column in Job.__table__.columns}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("before", [*JobState, "late"])
def test_every_verb_in_every_state_makes_the_step_of_the_table_or_none(session, account, before, verb):
    job_id = stands(session, account, before)
    stood = facts(row(session, job_id))
    told = VERBS[verb](session, row(session, job_id))
    after = facts(row(session, job_id))
    if wanted := STEPS.get((before, verb)):
        assert told
        assert after["state"] == wanted
        assert JobState(wanted) in TRANSITIONS[stood["state"]]
    elif (before, verb) == ("in_progress", "cancel"):
        assert told.state is JobState.IN_PROGRESS
        assert after == stood | {"cancel_requested_ms": LATE}
    else:
        assert after == stood


def test_every_step_of_the_table_is_one_that_a_verb_makes():
    made = {("queued" if before == "late" else before, after) for (before, _), after in STEPS.items()}
    allowed = {(before, after) for before, followers in TRANSITIONS.items() for after in followers}
    assert made == allowed


@pytest.mark.parametrize(
    ("column", "word"), [("state", "paused"), ("state", "QUEUED"), ("state", ""), ("door", "window")]
)
def test_the_database_refuses_a_word_that_is_none(session, account, column, word):
    job_id = submitted(session, account)
    with pytest.raises(IntegrityError):
        session.execute(text(f"UPDATE jobs SET {column} = :word WHERE id = :id"), {"word": word, "id": job_id})


@pytest.mark.parametrize("state", sorted(set(JobState) - FINAL))
def test_an_attempt_cannot_end_in_a_state_that_is_no_end(session, account, state):
    job_id = running(session, account)
    with pytest.raises(AssertionError):
        jobs.finish(session, job_id, 1, Ending(state, NOW))


def test_a_new_job_is_stored_whole(session, account):
    job = new_job(
        session,
        account,
        [said("hello")],
        meta={"k": "v"},
        webhook_url=HOOK,
        deadline_ms=NOW + 5000,
        parameters={"seed": 2**63 - 1, "stop": ["\0"]},
    )
    jobs.submit(session, [job, new_job(session, account)])
    stored = row(session, job.id)
    assert {name: getattr(stored, name) for name in type(job).__slots__} == {
        name: getattr(job, name) for name in type(job).__slots__
    }
    assert (stored.state, stored.attempt, stored.publish_due_ms) == ("queued", 1, NOW + PUBLISH_DOUBT_MS)
    assert session.scalar(select(func.count()).select_from(Job)) == 2


def test_a_claim_tells_all_that_an_attempt_needs(session, account):
    job = new_job(session, account, [said("hello")], deadline_ms=NOW + 5000)
    jobs.submit(session, [job])
    told = jobs.claim(session, job.id, "w1", NOW + 7)
    assert isinstance(told, Claimed)
    facts_told = {name: getattr(told, name) for name in Claimed.__slots__}
    the_rows = {"attempt": 1, "started_ms": NOW + 7}
    assert facts_told == {
        name: the_rows[name] if name in the_rows else getattr(job, name) for name in Claimed.__slots__
    }
    stored = row(session, job.id)
    assert (stored.worker, stored.lease_until_ms, stored.started_ms) == ("w1", NOW + 7 + LEASE_MS, NOW + 7)
    assert stored.publish_due_ms is None
    assert jobs.claim(session, job.id, "w2", NOW + 8) is None
    assert jobs.claim(session, "job_unknown", "w2", NOW + 8) is None


@pytest.mark.parametrize(("now_ms", "taken"), [(NOW + 4999, True), (NOW + 5000, False), (NOW + 5001, False)])
def test_a_job_past_its_deadline_is_not_claimed(session, account, now_ms, taken):
    job_id = submitted(session, account, deadline_ms=NOW + 5000)
    assert (jobs.claim(session, job_id, "w1", now_ms) is not None) is taken
    assert (jobs.expire_queued(session, now_ms, LOST) == []) is taken


def test_a_wait_is_measured_to_the_first_claim(session, account):
    job_id = running(session, account)
    jobs.hand_back(session, job_id, 1, NOW + 1000, LOST)
    claimed(session, job_id, now_ms=NOW + 2000)
    assert row(session, job_id).started_ms == NOW


def test_an_end_is_written_once_with_all_that_belongs_to_it(session, account):
    job_id = running(session, account, webhook_url=HOOK)
    assert jobs.finish(session, job_id, 1, ANSWERED)
    stored = row(session, job_id)
    assert (stored.state, stored.ended_ms, stored.first_token_ms) == ("completed", NOW + 500, NOW + 100)
    assert (stored.prompt_tokens, stored.completion_tokens, stored.cached_tokens) == (10, 5, 3)
    assert stored.result == {"completion": {"id": "chatcmpl-1"}}
    assert (stored.lease_until_ms, stored.publish_due_ms, stored.messages, stored.chain) == (None, None, None, None)
    assert (stored.parameters, stored.forget_due_ms) == ({"temperature": 0.5}, None)
    assert stored.conversation_id is not None
    assert session.scalar(select(func.count()).where(text("error IS NULL")).select_from(Job)) == 1
    assert not jobs.finish(session, job_id, 1, Ending(JobState.FAILED, NOW + 900, error=LOST))
    assert facts(row(session, job_id)) == facts(stored)
    assert session.scalar(select(func.count()).select_from(Delivery)) == 1
    assert session.scalar(select(func.count()).select_from(Turn)) == 1


def test_an_end_whose_commit_was_not_heard_of_is_found_again(session, account):
    """Else its worker took it for somebody else's, and deleted the very answer that the row names."""
    ending = replace(ANSWERED, result=None, result_key="results/1")
    job_id = running(session, account, webhook_url=HOOK, held_micros=5)
    assert jobs.finish(session, job_id, 1, ending)
    stood = facts(row(session, job_id))
    assert jobs.finish(session, job_id, 1, ending)
    assert facts(row(session, job_id)) == stood
    assert session.scalar(select(func.count()).select_from(Delivery)) == 1
    for other in (replace(ending, result_key="results/2"), replace(ending, state=JobState.CANCELLED)):
        assert not jobs.finish(session, job_id, 1, other)
    assert not jobs.finish(session, job_id, 2, ending)


@pytest.mark.parametrize("attempt", [0, 1, 3])
def test_an_attempt_that_is_not_the_present_one_changes_nothing(session, account, attempt):
    job_id = running(session, account)
    jobs.hand_back(session, job_id, 1, NOW, LOST)
    claimed(session, job_id, "w2")
    stood = facts(row(session, job_id))
    assert not jobs.finish(session, job_id, attempt, ANSWERED)
    assert jobs.hand_back(session, job_id, attempt, NOW, LOST) is None
    assert facts(row(session, job_id)) == stood
    assert session.scalar(select(func.count()).select_from(Message)) == 0
    assert jobs.finish(session, job_id, 2, ANSWERED)


def test_a_job_that_is_handed_back_waits_again_under_the_next_number(session, account):
    job_id = running(session, account)
    moved = jobs.hand_back(session, job_id, 1, NOW + 50, LOST)
    assert moved == Moved(job_id, 2, "chat.demo", JobState.QUEUED)
    stored = row(session, job_id)
    assert (stored.worker, stored.lease_until_ms, stored.publish_due_ms) == (None, None, NOW + 50 + PUBLISH_DOUBT_MS)
    assert stored.messages == [said("hello")]
    assert claimed(session, job_id).attempt == 2


def test_the_last_attempt_that_is_lost_fails_the_job(session, account):
    job_id = running(session, account, webhook_url=HOOK)
    for attempt in range(1, MAX_ATTEMPTS):
        assert jobs.hand_back(session, job_id, attempt, NOW, LOST).state is JobState.QUEUED
        claimed(session, job_id)
    moved = jobs.hand_back(session, job_id, MAX_ATTEMPTS, NOW, LOST)
    assert moved == Moved(job_id, MAX_ATTEMPTS, "chat.demo", JobState.FAILED)
    assert moved.epilogue == (job_id, MAX_ATTEMPTS + 1, 1)
    stored = row(session, job_id)
    assert (stored.state, stored.error, stored.messages) == ("failed", LOST, None)
    assert session.scalars(select(Delivery.type)).all() == ["chat.completion.failed"]


def test_a_wish_to_cancel_outlives_the_worker(session, account):
    job_id = running(session, account, webhook_url=HOOK)
    assert jobs.cancel(session, account, job_id, NOW) == Moved(job_id, 1, "chat.demo", JobState.IN_PROGRESS)
    assert jobs.reclaim(session, LATE, LOST) == [Moved(job_id, 1, "chat.demo", JobState.CANCELLED)]
    stored = row(session, job_id)
    assert (stored.state, stored.error, stored.cancel_requested_ms) == ("cancelled", None, NOW)
    assert session.scalars(select(Delivery.type)).all() == ["chat.completion.cancelled"]


def test_a_wish_keeps_a_job_from_being_claimed(session, account):
    """No verb leaves one in the queue; should there be one, the GPU is not asked."""
    job_id = submitted(session, account)
    session.execute(update(Job).values(cancel_requested_ms=NOW))
    assert jobs.claim(session, job_id, "w1", NOW) is None


def test_a_second_wish_does_not_move_the_first(session, account):
    job_id = running(session, account)
    jobs.cancel(session, account, job_id, NOW + 1)
    jobs.cancel(session, account, job_id, NOW + 2)
    assert row(session, job_id).cancel_requested_ms == NOW + 1


def test_nobody_cancels_or_finds_the_job_of_another_account(session, account):
    other = create_account(session, "eve", NOW)
    for job_id in (submitted(session, account), running(session, account)):
        stood = facts(row(session, job_id))
        assert jobs.cancel(session, other, job_id, NOW) is None
        assert jobs.find(session, other, job_id) is None
        assert facts(row(session, job_id)) == stood
        assert jobs.find(session, account, job_id).id == job_id


def test_a_lease_is_renewed_for_who_holds_it(session, account):
    mine, other, queued, done = (
        running(session, account),
        claimed(session, submitted(session, account), "w2").id,
        submitted(session, account),
        ended(session, account),
    )
    jobs.cancel(session, account, mine, NOW)
    told = jobs.renew(session, "w1", [mine, other, queued, done, "job_unknown"], NOW + 4000)
    assert told == [Renewed(mine, 1, cancel_requested=True)]
    assert row(session, mine).lease_until_ms == NOW + 4000 + LEASE_MS
    assert row(session, other).lease_until_ms == NOW + LEASE_MS
    assert jobs.renew(session, "w2", [other], NOW) == [Renewed(other, 1, cancel_requested=False)]
    assert jobs.renew(session, "w1", [], NOW) == []


def test_only_jobs_whose_lease_is_over_are_reclaimed(session, account):
    lost, kept = running(session, account), running(session, account)
    submitted(session, account)
    ended(session, account)
    jobs.renew(session, "w1", [kept], NOW + 1)
    assert jobs.reclaim(session, NOW + LEASE_MS, LOST) == []
    assert [move.id for move in jobs.reclaim(session, NOW + LEASE_MS + 1, LOST)] == [lost]
    assert jobs.reclaim(session, NOW + LEASE_MS + 1, LOST) == []
    assert jobs.renew(session, "w1", [lost], NOW + LEASE_MS + 1) == []


@pytest.mark.parametrize("sweep", ["reclaim", "expire"])
def test_a_job_that_cannot_be_moved_holds_up_no_other(session, account, sweep, caplog):
    broken = running(session, account) if sweep == "reclaim" else submitted(session, account, deadline_ms=NOW)
    session.execute(update(Job).where(Job.id == broken).values(chain=None, cancel_requested_ms=NOW))
    sound = running(session, account) if sweep == "reclaim" else submitted(session, account, deadline_ms=NOW)
    verb = jobs.reclaim if sweep == "reclaim" else jobs.expire_queued
    assert [move.id for move in verb(session, LATE, LOST)] == [sound]
    assert "could not be moved" in caplog.text
    assert verb(session, LATE, LOST) == []
    assert row(session, broken).state in {"queued", "in_progress"}


def test_a_sweep_takes_so_many_at_a_time(session, account):
    for _ in range(3):
        running(session, account)
        submitted(session, account, deadline_ms=NOW)
    assert [len(jobs.reclaim(session, LATE, LOST, limit=2)) for _ in range(3)] == [2, 1, 0]
    assert [len(jobs.expire_queued(session, NOW, LOST, limit=2)) for _ in range(3)] == [2, 1, 0]
    for _ in range(3):
        ended(session, account, store=False)
    jobs.forgotten(session, [job.job_id for job in jobs.forget(session, NOW + FORGET_MS, limit=2)])
    assert session.scalar(select(func.count()).where(Job.forget_due_ms.is_not(None))) == 1


def test_a_message_is_doubted_after_a_while_and_the_oldest_first(session, account):
    new, old = submitted(session, account, created_ms=NOW), submitted(session, account, created_ms=NOW - 1)
    running(session, account)
    ended(session, account)
    assert outbox.doubtful(session, NOW + PUBLISH_DOUBT_MS - 2) == []
    due = outbox.doubtful(session, NOW + PUBLISH_DOUBT_MS)
    assert due == [Moved(job_id, 1, "chat.demo", JobState.QUEUED) for job_id in (old, new)]
    assert [move.id for move in outbox.doubtful(session, NOW + PUBLISH_DOUBT_MS, limit=1)] == [old]
    assert [move.id for move in outbox.doubtful(session, NOW, everything=True, limit=1)] == [old, new]


@pytest.mark.parametrize(
    ("age_ms", "again_ms"),
    [
        (0, PUBLISH_DOUBT_MS),
        (2 * PUBLISH_DOUBT_MS + 1, PUBLISH_DOUBT_MS),
        (30_001, 15_000),
        (10 * DOUBT_MOST_MS, DOUBT_MOST_MS),
    ],
)
def test_a_message_that_is_there_is_doubted_again_less_often_with_age(session, account, age_ms, again_ms):
    job_id, moved_on = submitted(session, account), running(session, account)
    outbox.reassured(session, [job_id, moved_on, "job_unknown"], NOW + age_ms)
    due = session.scalar(select(Job.publish_due_ms).where(Job.id == job_id))
    assert due == NOW + age_ms + again_ms
    assert isinstance(due, int)
    assert row(session, moved_on).publish_due_ms is None


def test_the_waiting_are_counted_by_queue(session, account):
    for queue in ("chat.a", "chat.b", "chat.a"):
        submitted(session, account, queue=queue)
    running(session, account)
    ended(session, account)
    assert outbox.waiting(session) == {"chat.a": 2, "chat.b": 1}
    assert outbox.waiting(session)["chat.none"] == 0


SECRET = "the launch code is 0000"


def private(session, account, door, state, **changes):
    job_id = running(session, account, [said(SECRET)], store=False, door=door, parameters={"stop": [SECRET]}, **changes)
    error = None if state is JobState.COMPLETED else LOST
    ending = Ending(state, NOW, error=error, result={"completion": SECRET}, answers=[spoken(SECRET)])
    assert jobs.finish(session, job_id, 1, ending)
    return job_id


def holds_secret(session, job_id):
    return SECRET in repr(facts(row(session, job_id)))


@pytest.mark.parametrize("state", sorted(FINAL))
@pytest.mark.parametrize("door", Door)
def test_what_was_not_to_be_stored_is_not_in_the_transcript(session, account, door, state):
    private(session, account, door, state)
    for table in (Message, Turn, Answer, Conversation):
        assert session.scalar(select(func.count()).select_from(table)) == 0


@pytest.mark.parametrize("state", sorted(FINAL))
def test_an_answer_on_the_line_is_gone_with_its_end(session, account, state):
    job_id = private(session, account, Door.CHAT, state)
    assert not holds_secret(session, job_id)
    stored = row(session, job_id)
    assert (stored.messages, stored.chain, stored.parameters, stored.forget_due_ms) == (None, None, None, None)


@pytest.mark.parametrize("door", [Door.JOB, Door.REPLAY])
def test_an_answer_for_later_can_be_fetched_for_an_hour_and_then_no_more(session, account, door):
    job_id = private(session, account, door, JobState.COMPLETED)
    stored = row(session, job_id)
    assert (stored.messages, stored.chain, stored.parameters) == (None, None, None)
    assert stored.result == {"completion": SECRET}
    assert jobs.forget(session, NOW + FORGET_MS - 1) == []
    assert row(session, job_id).result is not None
    jobs.forget(session, NOW + FORGET_MS)
    assert not holds_secret(session, job_id)


def test_what_is_forgotten_is_told_until_the_object_store_holds_nothing_of_it(session, account):
    job_id, other = running(session, account, store=False), ended(session, account)
    jobs.finish(session, job_id, 1, Ending(JobState.COMPLETED, NOW, result_key="results/1"))
    for _ in range(2):
        assert jobs.forget(session, NOW + FORGET_MS) == [Doomed(job_id, 1)]
        assert row(session, job_id).result_key is None
    jobs.forgotten(session, [job_id])
    assert jobs.forget(session, NOW + FORGET_MS) == []
    assert row(session, other).forget_due_ms is None


def test_what_ends_in_the_queue_is_not_stored_either(session, account):
    cancelled = submitted(session, account, [said(SECRET)], store=False)
    expired = submitted(session, account, [said(SECRET)], store=False, deadline_ms=NOW)
    jobs.cancel(session, account, cancelled, NOW)
    jobs.expire_queued(session, NOW, LOST)
    for job_id in (cancelled, expired):
        assert row(session, job_id).state in FINAL
        assert not holds_secret(session, job_id)
    assert session.scalar(select(func.count()).select_from(Message)) == 0


@pytest.mark.parametrize("end", sorted(FINAL))
def test_an_end_and_its_delivery_are_one_transaction(session, account, end):
    job_id = running(session, account, webhook_url=HOOK)
    with session.begin_nested() as step:
        jobs.finish(session, job_id, 1, Ending(end, NOW, answers=[spoken("hi")]))
        assert session.scalars(select(Delivery.type)).all() == [f"chat.completion.{end}"]
        step.rollback()
    assert row(session, job_id).state == "in_progress"
    for table in (Delivery, Message, Turn, Answer, Conversation):
        assert session.scalar(select(func.count()).select_from(table)) == 0
    assert jobs.finish(session, job_id, 1, Ending(end, NOW))
    (delivery,) = session.scalars(select(Delivery))
    assert (delivery.job_id, delivery.url, delivery.state, delivery.due_ms) == (
        job_id,
        HOOK,
        DeliveryState.PENDING,
        NOW,
    )
    assert (delivery.account_id, delivery.attempts, delivery.created_ms) == (account, 0, NOW)


def test_a_job_without_a_webhook_has_no_delivery(session, account):
    ended(session, account)
    assert session.scalar(select(func.count()).select_from(Delivery)) == 0
