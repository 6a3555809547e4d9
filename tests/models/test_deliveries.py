"""A delivery is in one sender's hands at a time, is tried by the schedule, and ends once; its log tells every attempt."""

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError

from models import deliveries, jobs
from models.accounts import create_account
from models.deletions import delete_job
from models.deliveries import FORGET_MS, SEND_LEASE_MS, Due, Outcome, host_of
from models.handover import Ending
from models.lifecycle import JobState
from models.tables.webhooks import Delivery, DeliveryAttempt, DeliveryState
from models.webhooks import SCHEDULE_S
from tests.models.conftest import NOW, ended, row, running, said

HOOK = "https://example.com/hook"


def outcome(status=None, **changes):
    facts = {"started_ms": NOW, "duration_ms": 12, "status": status, "timed_out": False}
    facts |= {"error": None if status else "refused", "excerpt": "ok" if status else None, "retry_after_s": None}
    return Outcome(**(facts | changes))


@pytest.fixture
def job(session, account):
    return ended(session, account, webhook_url=HOOK)


@pytest.fixture
def delivery(session, job):
    return session.scalars(select(Delivery.id).where(Delivery.job_id == job)).one()


def stored(session, delivery_id):
    return session.get_one(Delivery, delivery_id, populate_existing=True)


def settled(session, delivery_id, result, now_ms=NOW, jitter=0.0):
    taken = deliveries.take(session, delivery_id, now_ms)
    assert taken is not None
    return deliveries.settle(session, taken, result, now_ms, jitter)


def test_a_delivery_is_due_at_once_and_the_longest_due_first(session, account):
    later = ended(session, account, webhook_url=HOOK)
    with_time = running(session, account, webhook_url=HOOK + "/2")
    jobs.finish(session, with_time, 1, Ending(JobState.FAILED, NOW - 1))
    by_job = {row.job_id: row.id for row in session.scalars(select(Delivery))}
    assert deliveries.due(session, NOW - 2, 10) == []
    first, second = Due(by_job[with_time], account, HOOK + "/2"), Due(by_job[later], account, HOOK)
    assert deliveries.due(session, NOW, 10) == [first, second]
    assert deliveries.due(session, NOW, 1) == [first]


def test_what_is_due_to_some_hosts_and_accounts_is_left_out(session, account):
    other = create_account(session, "eve", NOW)
    a, b = "https://a.example", "https://a.example.org"
    for whose, url in [(account, a), (account, a + "/x"), (other, a + "?x"), (other, b), (account, b + "/?" + a)]:
        ended(session, whose, webhook_url=url)

    def found(**without):
        return {(each.account_id, each.url) for each in deliveries.due(session, NOW, 10, **without)}

    assert found(hosts=[a]) == {(other, b), (account, b + "/?" + a)}
    assert found(hosts=[a, b]) == set()
    assert found(accounts=[account]) == {(other, a + "?x"), (other, b)}
    assert found(hosts=[b], accounts=[other]) == {(account, a), (account, a + "/x")}


@pytest.mark.parametrize("url", ["http://a:1/b", "http://a:1", "http://a:1?b", "http://a:1#b"])
def test_a_host_is_all_before_the_path(url):
    assert host_of(url) == "http://a:1"


@pytest.mark.parametrize("url", ["HTTP://a.example/b", "https://A.example", "https://ÄÖ.example:1?x"])
def test_a_host_is_left_out_however_it_is_written(session, account, url):
    ended(session, account, webhook_url=url)
    assert [each.url for each in deliveries.due(session, NOW, 10)] == [url]
    assert deliveries.due(session, NOW, 10, hosts=[host_of(url)]) == []


def test_a_sender_is_told_all_it_needs_and_nobody_else_gets_it_meanwhile(session, account, job, delivery):
    taken = deliveries.take(session, delivery, NOW)
    event = stored(session, delivery).event_id
    assert (taken.id, taken.account_id, taken.event_id, taken.job_id) == (delivery, account, event, job)
    assert (taken.type, taken.url, taken.attempts, taken.created_ms) == ("chat.completion.completed", HOOK, 1, NOW)
    assert deliveries.take(session, delivery, NOW) is None
    assert deliveries.due(session, NOW + SEND_LEASE_MS - 1, 10) == []
    assert deliveries.take(session, delivery, NOW + SEND_LEASE_MS - 1) is None
    assert deliveries.take(session, delivery, NOW + SEND_LEASE_MS).attempts == 2
    assert deliveries.take(session, "dlv_unknown", NOW) is None


@pytest.mark.parametrize("status", [200, 204, 299])
def test_what_arrived_is_not_sent_again(session, delivery, status):
    assert settled(session, delivery, outcome(status), NOW + 5) is DeliveryState.DELIVERED
    now = stored(session, delivery)
    assert (now.state, now.due_ms, now.ended_ms, now.attempts) == ("delivered", None, NOW + 5, 1)
    assert deliveries.due(session, NOW * 2, 10) == []
    assert deliveries.take(session, delivery, NOW * 2) is None


def test_a_receiver_that_is_gone_is_left_alone(session, delivery):
    assert settled(session, delivery, outcome(410)) is DeliveryState.FAILED
    assert (stored(session, delivery).due_ms, stored(session, delivery).ended_ms) == (None, NOW)


@pytest.mark.parametrize(
    ("result", "jitter", "wait_s"),
    [
        (outcome(500), 0, 5),
        (outcome(302), 0, 5),
        (outcome(None), 0, 5),
        (outcome(500), 1, 6),
        (outcome(500), -1, 4),
        (outcome(429), 0, 60),
        (outcome(None, timed_out=True), 0, 60),
        (outcome(503, retry_after_s=8), 0, 8),
        (outcome(503, retry_after_s=1e9), 0, 10),
    ],
)
def test_what_did_not_arrive_is_due_again_by_the_schedule(session, delivery, result, jitter, wait_s):
    assert settled(session, delivery, result, jitter=jitter) is DeliveryState.PENDING
    assert stored(session, delivery).due_ms == NOW + wait_s * 1000
    assert stored(session, delivery).ended_ms is None


def test_a_delivery_is_given_up_when_the_schedule_is_used_up(session, delivery):
    now = NOW
    for number, step_s in enumerate((*SCHEDULE_S[1:], None), 1):
        state = settled(session, delivery, outcome(500), now)
        assert stored(session, delivery).attempts == number
        if step_s is not None:
            assert state is DeliveryState.PENDING
            assert stored(session, delivery).due_ms == now + step_s * 1000
            now += step_s * 1000
    assert state is DeliveryState.FAILED
    assert (stored(session, delivery).ended_ms, stored(session, delivery).due_ms) == (now, None)
    log = deliveries.attempts_of(session, [delivery])[delivery]
    assert [attempt.number for attempt in log] == list(range(1, len(SCHEDULE_S) + 1))


def test_a_sender_that_was_too_slow_writes_its_attempt_and_decides_nothing(session, delivery):
    slow = deliveries.take(session, delivery, NOW)
    quick = deliveries.take(session, delivery, NOW + SEND_LEASE_MS)
    assert deliveries.settle(session, slow, outcome(410), NOW + SEND_LEASE_MS, 0) is None
    assert stored(session, delivery).state is DeliveryState.PENDING
    assert deliveries.settle(session, quick, outcome(200), NOW + SEND_LEASE_MS, 0) is DeliveryState.DELIVERED
    log = deliveries.attempts_of(session, [delivery])[delivery]
    assert [(attempt.number, attempt.status) for attempt in log] == [(1, 410), (2, 200)]


def test_the_log_keeps_what_the_receiver_said_as_far_as_a_database_can(session, delivery):
    settled(session, delivery, outcome(500, excerpt="a\0b\ufffd"))
    settled(session, delivery, outcome(None, error="x" * 300), NOW + 5000)
    one, two = deliveries.attempts_of(session, [delivery])[delivery]
    assert (one.started_ms, one.duration_ms, one.status, one.error, one.excerpt) == (NOW, 12, 500, None, "ab\ufffd")
    assert (two.status, two.error, two.excerpt) == (None, "x" * 300, None)


def test_every_delivery_asked_about_has_a_log(session, delivery):
    assert deliveries.attempts_of(session, [delivery, "dlv_unknown"]) == {delivery: [], "dlv_unknown": []}
    assert deliveries.attempts_of(session, []) == {}


def test_nobody_finds_the_delivery_of_another_account(session, account, delivery):
    assert deliveries.find(session, account, delivery).id == delivery
    assert deliveries.find(session, create_account(session, "eve", NOW), delivery) is None


@pytest.fixture
def secret(session, account):
    """A job that was not to be stored, and its delivery."""
    job = running(session, account, [said("secret")], store=False, webhook_url=HOOK)
    jobs.finish(session, job, 1, Ending(JobState.COMPLETED, NOW, result={"completion": "secret"}))
    return job, session.scalars(select(Delivery.id)).one()


def test_an_answer_that_was_not_to_be_stored_goes_when_it_is_delivered(session, secret):
    job, delivery = secret
    settled(session, delivery, outcome(500))
    settled(session, delivery, outcome(200), NOW + 5000)
    assert row(session, job).forget_due_ms == NOW + 5000
    jobs.forget(session, NOW + 5000)
    assert row(session, job).result is None


def test_it_is_there_for_the_last_attempt_of_the_slowest_receiver_and_an_hour_longer(session, secret):
    job, delivery = secret
    now = NOW
    while settled(session, delivery, outcome(503, retry_after_s=1e9), now, jitter=1.0) is DeliveryState.PENDING:
        now = stored(session, delivery).due_ms
        jobs.forget(session, now)
        assert row(session, job).result is not None, stored(session, delivery).attempts
    assert stored(session, delivery).attempts == len(SCHEDULE_S)
    jobs.forget(session, now + FORGET_MS - 1)
    assert row(session, job).result is not None
    jobs.forget(session, now + FORGET_MS)
    assert row(session, job).result is None


def test_what_was_deleted_meanwhile_is_not_put_off(session, secret):
    job, delivery = secret
    delete_job(session, job, NOW)
    settled(session, delivery, outcome(410), NOW + 5000)
    assert row(session, job).forget_due_ms == NOW


def test_it_goes_though_no_delivery_is_ever_tried(session, secret):
    job, _ = secret
    jobs.forget(session, row(session, job).forget_due_ms)
    assert row(session, job).result is None


def test_a_stored_answer_stays_when_it_is_delivered(session, job, delivery):
    settled(session, delivery, outcome(200))
    assert row(session, job).forget_due_ms is None


def test_an_event_has_an_id_of_its_own(session, account):
    for _ in range(3):
        ended(session, account, webhook_url=HOOK)
    events = session.scalars(select(Delivery.event_id)).all()
    assert len(set(events)) == 3
    with pytest.raises(IntegrityError):
        session.execute(text("UPDATE deliveries SET event_id = :event"), {"event": events[0]})


def test_the_database_refuses_a_state_that_is_none(session, delivery):
    with pytest.raises(IntegrityError):
        session.execute(text("UPDATE deliveries SET state = 'lost'"))


def test_an_attempt_is_written_with_the_step_or_not_at_all(session, delivery):
    taken = deliveries.take(session, delivery, NOW)
    with session.begin_nested() as step:
        deliveries.settle(session, taken, outcome(200), NOW, 0)
        step.rollback()
    assert stored(session, delivery).state is DeliveryState.PENDING
    assert session.scalar(select(func.count()).select_from(DeliveryAttempt)) == 0
