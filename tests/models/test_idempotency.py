"""One key, one request, one job: told again to who repeats it, refused to who asks for something else, forgotten after a day."""

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models import idempotency
from models.accounts import create_account
from models.batches import NewBatch
from models.errors import KeyReused
from models.idempotency import KEPT_MS, begin_once, digest, made_before, submit_all_once, submit_once
from models.tables.batches import Batch, BatchKind
from models.tables.jobs import IdempotencyKey, Job
from tests.models.conftest import AT_ONCE, NOW, at_once, new_job, overlapping

BODY = {"messages": [{"role": "user", "content": "hello"}], "seed": 1}


def once(session, account, key="k", body=BODY, now_ms=NOW):
    return submit_once(session, new_job(session, account), key, digest("job", body), now_ms)


def count(session, table):
    return session.scalar(select(func.count()).select_from(table))


def test_a_repeated_request_joins_the_job_it_made(session, account):
    first = once(session, account)
    assert once(session, account) == first
    assert session.scalars(select(Job.id)).all() == [first]


def test_another_key_makes_another_job(session, account):
    assert once(session, account, "k") != once(session, account, "K")
    assert count(session, Job) == 2


def test_another_request_under_the_same_key_is_refused(session, account):
    once(session, account)
    with pytest.raises(KeyReused) as caught:
        once(session, account, body=BODY | {"seed": 2})
    assert caught.value.param == "Idempotency-Key"
    assert count(session, Job) == 1


def test_what_was_made_before_is_found_without_making_anything(session, account):
    def before(owner=account, body=BODY, now_ms=NOW):
        return made_before(session, owner, "k", digest("job", body), now_ms)

    assert before() is None
    first = once(session, account)
    assert before() == first
    assert before(owner=create_account(session, "bob", NOW)) is None
    assert (before(now_ms=NOW + KEPT_MS - 1), before(now_ms=NOW + KEPT_MS)) == (first, None)
    with pytest.raises(KeyReused):
        before(body=BODY | {"seed": 2})
    assert count(session, Job) == 1


def test_a_repeated_replay_joins_the_one_that_was_made(session, account):
    def begin(name):
        replay = NewBatch(name, account, BatchKind.REPLAY, {}, NOW)
        return begin_once(session, replay, "k", digest("replay", BODY))

    assert (begin("rpl_1"), begin("rpl_2")) == ("rpl_1", "rpl_1")
    assert count(session, Batch) == 1
    with pytest.raises(KeyReused):
        once(session, account)


def test_accounts_do_not_meet_in_their_keys(session, account):
    other = create_account(session, "bob", NOW)
    assert once(session, account) != once(session, other, body=BODY | {"seed": 2})


def test_a_key_is_forgotten_after_a_day(session, account):
    first = once(session, account)
    assert once(session, account, now_ms=NOW + KEPT_MS - 1) == first
    idempotency.forget(session, NOW + KEPT_MS - 1)
    assert count(session, IdempotencyKey) == 1
    second = once(session, account, body=BODY | {"seed": 2}, now_ms=NOW + KEPT_MS)
    assert second != first
    idempotency.forget(session, NOW + KEPT_MS)
    assert count(session, IdempotencyKey) == 1
    idempotency.forget(session, NOW + 2 * KEPT_MS)
    assert count(session, IdempotencyKey) == 0
    assert count(session, Job) == 2


def test_a_request_is_the_same_in_any_order_of_its_fields_and_another_at_another_door():
    turned = dict(reversed(BODY.items()))
    assert list(turned) != list(BODY)
    assert digest("job", turned) == digest("job", BODY)
    assert digest("chat", BODY) != digest("job", BODY)
    assert digest("job", BODY | {"seed": 2}) != digest("job", BODY)
    assert digest("job", {"stop": ["a", "b"]}) != digest("job", {"stop": ["b", "a"]})
    assert len(digest("job", {})) == 32


def test_of_many_equal_requests_at_once_one_makes_the_job(engine):
    with Session(engine) as session, session.begin():
        account = create_account(session, "ada", NOW)
    told = at_once(engine, *[lambda session: once(session, account)] * AT_ONCE)
    with Session(engine) as session:
        assert set(told) == set(session.scalars(select(Job.id)))
        assert len(set(told)) == 1


@pytest.mark.parametrize("database_kind", ["postgres"], indirect=True)
def test_a_request_that_comes_while_its_equal_is_not_yet_committed_waits_for_it(engine):
    with Session(engine) as session, session.begin():
        account = create_account(session, "ada", NOW)
    one, other = overlapping(engine, lambda session: once(session, account), lambda session: once(session, account))
    assert one == other


def test_a_key_stands_for_all_that_was_asked_together(session, account):
    first = [new_job(session, account) for _ in range(3)]
    asked = digest("job", BODY)
    assert submit_all_once(session, first, "k", asked, NOW) == first[0].id
    assert submit_all_once(session, [new_job(session, account) for _ in range(3)], "k", asked, NOW) == first[0].id
    assert sorted(session.scalars(select(Job.id))) == sorted(job.id for job in first)
    alone = new_job(session, account)
    assert submit_all_once(session, [alone], "one", asked, NOW) == alone.id
    with pytest.raises(KeyReused):
        submit_all_once(session, [new_job(session, account)], "k", "other", NOW)
    assert count(session, Job) == 4
