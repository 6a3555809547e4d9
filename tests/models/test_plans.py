"""What is done every second, or at every job's end, goes by an index: it takes as long over a million rows as over ten."""

from functools import partial

import pytest
from sqlalchemy import select

from models import deletions, deliveries, eval_items, evals, idempotency, jobs, outbox, transcripts
from models.lifecycle import JobState
from models.listings import Window, page
from models.tables.evals import Outcome
from models.tables.jobs import Job
from tests.models.conftest import LOST, NOW, plan_of

NAMES = [f"{number:032}" for number in range(50)]
GOES_BY = {
    "ix_jobs_lease_until": partial(jobs.reclaim, now_ms=NOW, error=LOST),
    "ix_jobs_queued_deadline": partial(jobs.expire_queued, now_ms=NOW, error=LOST),
    "ix_jobs_publish_due": partial(outbox.doubtful, now_ms=NOW),
    "ix_jobs_forget_due": lambda session: session.execute(select(Job.id).where(Job.forget_due_ms <= NOW)),
    "ix_deliveries_due": partial(deliveries.due, now_ms=NOW, limit=10, hosts=["http://a"], accounts=["a"]),
    "ix_idempotency_keys_due_ms": partial(idempotency.forget, now_ms=NOW),
    "ix_turns_conversation": partial(transcripts.turns, conversation_id="conv_1"),
    "ix_messages_parent": partial(deletions._needed, name="0"),
    "ix_turns_prompt": partial(deletions._needed, name="0"),
    "ix_evals_updated": partial(evals.listed, account_id="a", window=Window(), by_update=True),
}


# Postgres goes by what it has counted, and among a handful of rows by chance.
ONLY_SQLITE = {
    "ix_jobs_list_state": lambda session: page(session, Job, "a", Window(limit=1), Job.state == JobState.QUEUED),
    "ix_evals_list": partial(evals.listed, account_id="a", window=Window(), by_update=False),
    "ix_eval_runs_list": partial(evals.runs_page, eval_id="e", window=Window(ascending=True)),
    "ix_eval_items_outcome": partial(eval_items.page, run_id="r", window=Window(ascending=True), outcome=Outcome.FAIL),
    "ix_answers_hash": lambda session: session.execute(transcripts._ANSWERED, {"hashes": NAMES}),
}


@pytest.mark.parametrize("index", GOES_BY)
def test_an_index_leads_to_the_rows(session, index):
    assert index in plan_of(session, GOES_BY[index])


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
@pytest.mark.parametrize("index", ONLY_SQLITE)
def test_an_index_leads_to_the_rows_though_there_are_others(session, index):
    plan = plan_of(session, ONLY_SQLITE[index])
    assert index in plan
    assert "conversations_list" not in plan, "that goes through all that the account has ever said"
