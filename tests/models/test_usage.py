"""A row for every ending and never two, sums that are the rows whenever they are asked for, and nobody else's."""

from functools import partial

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models import jobs, sub_accounts, usage
from models.accounts import create_account
from models.handover import Ending
from models.jobs import LEASE_MS, MAX_ATTEMPTS
from models.lifecycle import FINAL, JobState
from models.limits import month_of
from models.tables.jobs import Job
from models.tables.usage import Usage, UsageSum
from tests.models.conftest import (
    AT_ONCE,
    LOST,
    NOW,
    at_once,
    chooses_by_words,
    claimed,
    new_job,
    plan_of,
    row,
    running,
    submitted,
)

LATE = NOW + LEASE_MS + 1
MONTH = month_of(NOW)
USED = {"prompt_tokens": 10, "completion_tokens": 5, "cached_tokens": 3}
COST = 6  # 10 x 0.35 + 5 x 0.55, rounded


def finish(session, job_id, state=JobState.COMPLETED, at_ms=NOW, attempt=1, **used):
    return jobs.finish(session, job_id, attempt, Ending(state, at_ms, **(used or USED)))


def used(session, account, **changes):
    job_id = running(session, account, card="tram-demo", **changes)
    assert finish(session, job_id)
    return job_id


def rows(session):
    return session.scalars(select(Usage).order_by(Usage.job_id)).all()


@pytest.fixture
def below(session, account):
    return sub_accounts.create(session, account, "below", {}, NOW)[0].id


@pytest.mark.parametrize("state", sorted(FINAL))
def test_every_ending_is_charged_what_it_took(session, account, state):
    job_id = running(session, account, card="tram-demo", tag="shop")
    assert finish(session, job_id, state)
    (found,) = rows(session)
    assert (found.job_id, found.account_id, found.payer_id, found.tag) == (job_id, account, account, "shop")
    assert (found.prompt_tokens, found.cached_tokens, found.completion_tokens) == (10, 3, 5)
    assert (found.cost_micros, found.state, found.month, found.at_ms) == (COST, state, MONTH, NOW)
    assert (found.model, found.card, row(session, job_id).cost_micros) == ("mistral-small", "tram-demo", COST)


def test_what_never_ran_costs_nothing_and_is_in_the_books(session, account):
    ids = {
        "cancelled": submitted(session, account, card="tram-demo"),
        "expired": submitted(session, account, card="tram-demo", deadline_ms=NOW),
        "failed": running(session, account, card="tram-demo"),
    }
    assert rows(session) == []
    jobs.cancel(session, account, ids["cancelled"], NOW)
    jobs.expire_queued(session, NOW, LOST)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        jobs.hand_back(session, ids["failed"], attempt, NOW, LOST)
        jobs.claim(session, ids["failed"], "w", NOW)
    assert {each.job_id: (each.state, each.cost_micros) for each in rows(session)} == {
        job_id: (state, 0) for state, job_id in ids.items()
    }


def test_who_comes_late_is_not_charged_for(session, account):
    job_id = used(session, account)
    assert finish(session, job_id), "it finds its own end"
    assert not finish(session, job_id, at_ms=LATE)
    assert not finish(session, job_id, JobState.FAILED, attempt=2)
    jobs.cancel(session, account, job_id, LATE)
    jobs.reclaim(session, LATE, LOST)
    again = running(session, account, card="tram-demo")
    jobs.reclaim(session, LATE, LOST)
    assert not finish(session, again), "the first attempt lost its lease"
    claimed(session, again, "w2", LATE)
    assert finish(session, again, attempt=2)
    assert [each.cost_micros for each in rows(session)] == [COST, COST]


def test_what_ends_many_times_at_once_is_charged_once(engine):
    with Session(engine) as session, session.begin():
        account = create_account(session, "ada", NOW)
        new = [new_job(session, account, card="tram-demo") for _ in range(4)]
        jobs.submit(session, new)
        for job in new:
            jobs.claim(session, job.id, "w", NOW)
    ends = [
        partial(finish, job_id=job.id, state=state) for job in new for state in (JobState.COMPLETED, JobState.FAILED)
    ]
    assert sum(at_once(engine, *ends[:AT_ONCE])) == len(new)
    with Session(engine) as session:
        assert sorted(session.scalars(select(Usage.job_id))) == sorted(job.id for job in new)


def test_sums_are_the_rows_before_and_after_they_are_folded(session, account, below):
    for owner, tag in ((account, "a"), (account, "b"), (account, None), (below, "a"), (below, "a")):
        used(session, owner, tag=tag, parent_id=account if owner == below else None)
    other = create_account(session, "bob", NOW)
    used(session, other, tag="a")

    def seen():
        tags = {each.label: (each.requests, each.cost_micros) for each in usage.by_tag(session, account, MONTH)}
        owners = {each.label: each.requests for each in usage.by_account(session, account, MONTH)}
        spent = [usage.spent(session, each, MONTH) for each in (account, below, other)]
        return tags, owners, spent, usage.by_tag(session, below, MONTH), usage.spent_each(session, account, MONTH)

    before = seen()
    tags, owners, spent, mine, each = before
    assert tags == {"": (1, COST), "a": (3, 3 * COST), "b": (1, COST)}
    assert owners == {account: 3, below: 2}
    assert spent == [(5 * COST, 5 * COST), (2 * COST, 2 * COST), (COST, COST)]
    assert [(one.label, one.requests, one.prompt_tokens, one.cached_tokens, one.completion_tokens) for one in mine] == [
        ("a", 2, 20, 6, 10)
    ]
    assert each == {account: (3 * COST, 3 * COST), below: (2 * COST, 2 * COST)}
    assert [usage.fold(session), usage.fold(session)] == [6, 0]
    assert seen() == before
    used(session, account, tag="a")
    assert usage.fold(session) == 1
    assert session.scalar(select(func.sum(UsageSum.cost_micros))) == 7 * COST
    assert usage.spent(session, account, MONTH) == (6 * COST, 6 * COST)


def test_another_months_spending_counts_only_in_all(session, account):
    job_id = running(session, account, card="tram-demo")
    finish(session, job_id, at_ms=NOW - 40 * 86_400_000)
    used(session, account)
    assert usage.spent(session, account, MONTH) == (COST, 2 * COST)
    usage.fold(session)
    assert usage.spent(session, account, MONTH) == (COST, 2 * COST)
    assert usage.spent(session, account, "2001-01") == (0, 2 * COST)


def test_folds_at_the_same_time_count_each_row_once(engine):
    with Session(engine) as session, session.begin():
        account = create_account(session, "ada", NOW)
        for number in range(20):
            used(session, account, tag=f"t{number % 3}")
    at_once(engine, *[usage.fold] * 4)
    with Session(engine) as session, session.begin():
        usage.fold(session)
        assert usage.spent(session, account, MONTH) == (20 * COST, 20 * COST)
        assert session.scalar(select(func.sum(UsageSum.requests))) == 20


def test_what_ended_last_comes_first(session, account, below):
    ids = []
    for number, owner in enumerate((account, below, account)):
        ids.append(running(session, owner, card="tram-demo", parent_id=account if owner == below else None))
        finish(session, ids[-1], at_ms=NOW + number)
    assert [each.job_id for each in usage.recent(session, account, 10)] == ids[::-1]
    assert [each.job_id for each in usage.recent(session, account, 2)] == ids[:0:-1]
    assert [each.job_id for each in usage.recent(session, below, 10)] == [ids[1]]
    assert "ix_usage_payer" in plan_of(session, lambda session: usage.recent(session, account, 2))


def test_a_standing_leaves_out_what_is_held_and_names_what_is_open(session, account, below):
    done = [used(session, below, parent_id=account, held_micros=50) for _ in range(2)]
    waiting = submitted(session, below, parent_id=account, held_micros=70)
    working = running(session, account, held_micros=0)
    submitted(session, account)
    stands = usage.standing(session, account, MONTH, held=[done[0], waiting])
    assert (stands.month_micros, stands.total_micros) == (COST, COST)
    assert sorted(stands.open) == sorted([(waiting, 70), (working, 0)])
    assert usage.standing(session, below, MONTH, held=[]).open == [(waiting, 70)]
    usage.fold(session)
    assert usage.standing(session, account, MONTH, held=done).total_micros == 0
    assert "ix_jobs_held" in plan_of(session, lambda session: usage.standing(session, account, MONTH, held=[]))


def test_of_doubted_jobs_those_that_ended_are_settled(session, account):
    over, free = used(session, account, held_micros=50), used(session, account)
    still = running(session, account, held_micros=50)
    settled, unbound = usage.ended(session, [over, free, still, "job_never"])
    assert [(each.job_id, each.micros, each.tokens, each.accounts) for each in settled] == [
        (over, COST, 15, (account,))
    ]
    assert unbound == sorted([free, "job_never"])


@pytest.mark.parametrize("held", [None, 50])
def test_an_end_tells_what_it_lets_go(session, account, held):
    job_id = submitted(session, account, held_micros=held)
    assert session.get_one(Job, job_id).held_micros == held
    moved = jobs.cancel(session, account, job_id, NOW)
    assert (moved.settlement is None) is (held is None)


def test_what_is_to_be_added_up_is_found_among_what_is_new(session, account):
    for query in (usage.unfolded, lambda session: usage.spent(session, account, MONTH)):
        assert "ix_usage_unfolded" in plan_of(session, query) or not chooses_by_words(session)
