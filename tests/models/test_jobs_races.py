"""Two that want the same job: whatever they do at the same moment, it comes out as if one had gone first."""

from collections import Counter
from functools import partial

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from models import accounts, jobs
from models.accounts import create_account
from models.handover import Ending
from models.jobs import LEASE_MS
from models.lifecycle import FINAL, JobState
from models.tables.jobs import Job
from models.tables.transcripts import Message, Turn
from models.tables.webhooks import Delivery
from models.webhooks import new_secret
from tests.models.conftest import AT_ONCE, LOST, NOW, at_once, new_job, overlapping, said, spoken

LATE = NOW + LEASE_MS + 1
HOOK = "https://example.com/hook"
VERBS = {
    "claim": lambda session, account, job: jobs.claim(session, job, "w2", LATE),
    "renew": lambda session, account, job: jobs.renew(session, "w1", [job], LATE),
    "finish": lambda session, account, job: jobs.finish(
        session, job, 1, Ending(JobState.COMPLETED, LATE, answers=[spoken("hi")])
    ),
    "hand back": lambda session, account, job: jobs.hand_back(session, job, 1, LATE, LOST),
    "reclaim": lambda session, account, job: jobs.reclaim(session, LATE, LOST),
    "cancel": lambda session, account, job: jobs.cancel(session, account, job, LATE),
    "expire": lambda session, account, job: jobs.expire_queued(session, LATE, LOST),
}


def prepared(engine, **changes):
    """A committed account and job."""
    with Session(engine) as session, session.begin():
        account = create_account(session, "ada", NOW)
        job = new_job(session, account, [said("hello")], webhook_url=HOOK, **changes)
        jobs.submit(session, [job])
    return account, job.id


def told(engine, query):
    with Session(engine) as session:
        return session.scalars(query).all()


@pytest.mark.parametrize("_", range(3))
def test_of_many_that_claim_a_job_one_gets_it(engine, _):
    _, job = prepared(engine)
    claims = [lambda session, n=n: jobs.claim(session, job, f"w{n}", NOW) for n in range(AT_ONCE)]
    won = [n for n, claim in enumerate(at_once(engine, *claims)) if claim is not None]
    assert told(engine, select(Job.worker)) == [f"w{n}" for n in won]


def test_of_many_that_end_a_job_one_does_and_one_delivery_goes_out(engine):
    account, job = prepared(engine)
    with Session(engine) as session, session.begin():
        jobs.claim(session, job, "w1", NOW)
    ends = [
        lambda session, end=end: jobs.finish(session, job, 1, Ending(end, LATE, answers=[spoken("hi")]))
        for end in sorted(FINAL)
    ]
    more = [lambda session: jobs.cancel(session, account, job, LATE), lambda session: jobs.reclaim(session, LATE, LOST)]
    answers = at_once(engine, *ends, *more)
    (state,), (attempt,) = told(engine, select(Job.state)), told(engine, select(Job.attempt))
    if any(answers[: len(FINAL)]):
        assert Counter(answers[: len(FINAL)]) == {True: 1, False: 3}
        assert state == sorted(FINAL)[answers.index(True)]
        assert told(engine, select(Delivery.type)) == [f"chat.completion.{state}"]
        assert told(engine, select(func.count()).select_from(Turn)) == [1]
    else:
        assert (state, attempt) in {("queued", 2), ("cancelled", 1), ("cancelled", 2)}


def test_of_many_that_reclaim_each_lost_job_is_moved_by_one(engine):
    account, _ = prepared(engine)
    with Session(engine) as session, session.begin():
        lost = [new_job(session, account) for _ in range(10)]
        jobs.submit(session, lost)
        for job in lost:
            jobs.claim(session, job.id, "w1", NOW)
    moved = at_once(engine, *[lambda session: jobs.reclaim(session, LATE, LOST)] * 4)
    assert Counter(move.id for moves in moved for move in moves) == Counter(job.id for job in lost)
    assert set(told(engine, select(Job.attempt).where(Job.worker.is_(None), Job.started_ms.is_not(None)))) == {2}


def test_two_turns_that_end_together_store_their_common_words_once(engine):
    account, _ = prepared(engine)
    with Session(engine) as session, session.begin():
        new = [new_job(session, account, [said("be brief", "system"), said("hello")]) for _ in range(AT_ONCE)]
        jobs.submit(session, new)
        for job in new:
            jobs.claim(session, job.id, "w1", NOW)
    ending = Ending(JobState.COMPLETED, LATE, answers=[spoken("hi"), spoken("hi")])
    ends = [lambda session, job=job: jobs.finish(session, job.id, 1, ending) for job in new]
    assert at_once(engine, *ends) == [True] * AT_ONCE
    assert told(engine, select(Message.depth).order_by(Message.depth)) == [0, 1, 2]
    assert told(engine, select(func.count()).select_from(Turn)) == [AT_ONCE]


@pytest.mark.parametrize("database_kind", ["postgres"], indirect=True)
def test_two_rotations_of_a_secret_follow_one_another(engine):
    """Else one caller would be told a secret that nothing is signed with."""
    account, _ = prepared(engine)
    first, second = new_secret(), new_secret()
    rotate = partial(accounts.rotate_secret, account_id=account, now_ms=NOW)
    overlapping(engine, partial(rotate, secret=first), partial(rotate, secret=second))
    with Session(engine) as session:
        assert accounts.signing_secrets(session, account, NOW) == [second, first]


def stood(engine, job):
    columns = (Job.state, Job.attempt, Job.cancel_requested_ms, Job.worker, Job.lease_until_ms)
    with Session(engine) as session:
        deliveries = session.scalars(select(Delivery.type).where(Delivery.job_id == job)).all()
        return tuple(session.execute(select(*columns).where(Job.id == job)).one()), tuple(deliveries)


def anonymous(answer, *names):
    text = repr(answer)
    for name in names:
        text = text.replace(name, "")
    return text


def in_turn(engine, state, order):
    """What comes out when one is committed before the other begins; answers by verb's name."""
    account, job = placed(engine, state)
    answers = {}
    for place, verb in order:
        with Session(engine) as session, session.begin():
            answers[place] = anonymous(VERBS[verb](session, account, job), account, job)
    return answers, stood(engine, job)


def together(engine, state, first, second):
    """What comes out when the second begins while the first has done its work and is not yet committed."""
    account, job = placed(engine, state)
    verbs = [lambda session, verb=verb: VERBS[verb](session, account, job) for verb in (first, second)]
    answers = overlapping(engine, *verbs)
    return {place: anonymous(answer, account, job) for place, answer in enumerate(answers)}, stood(engine, job)


def placed(engine, state):
    """The only open job."""
    with Session(engine) as session, session.begin():
        session.execute(update(Job).values(state=JobState.FAILED))
    account, job = prepared(engine, deadline_ms=LATE if state == "overdue" else None)
    if state == "running":
        with Session(engine) as session, session.begin():
            jobs.claim(session, job, "w1", NOW)
    return account, job


@pytest.mark.parametrize("database_kind", ["postgres"], indirect=True)  # SQLite lets one write at a time
@pytest.mark.parametrize("first", VERBS)
@pytest.mark.parametrize("state", ["queued", "running", "overdue"])
def test_two_verbs_that_overlap_come_out_as_if_one_had_gone_first(engine, state, first):
    for second in VERBS:
        one, other = (0, first), (1, second)
        allowed = [in_turn(engine, state, order) for order in ((one, other), (other, one))]
        assert together(engine, state, first, second) in allowed, f"{first} before {second}"
