"""Whatever is done to jobs in whatever order, they follow a model that fits on a page: one end, one delivery, growing attempts."""

from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import jobs
from models.accounts import create_account
from models.handover import Ending
from models.jobs import LEASE_MS, MAX_ATTEMPTS
from models.lifecycle import FINAL, TRANSITIONS, JobState
from models.tables.jobs import Job
from models.tables.transcripts import Turn
from models.tables.webhooks import Delivery
from tests.models.conftest import LOST, NOW, new_job, spoken

WORKERS = ("w1", "w2")
IN_PROGRESS, QUEUED = JobState.IN_PROGRESS, JobState.QUEUED


@dataclass
class Known:
    """What the model knows of a job."""

    deadline_ms: int | None
    store: bool
    state: JobState = QUEUED
    attempt: int = 1
    worker: str | None = None
    lease_ms: int | None = None
    wish: bool = False

    def end(self, state: JobState) -> None:
        assert self.state not in FINAL
        self.state, self.lease_ms = state, None

    def lose(self) -> None:
        if self.wish:
            self.end(JobState.CANCELLED)
        elif self.attempt == MAX_ATTEMPTS:
            self.end(JobState.FAILED)
        else:
            self.state, self.attempt, self.worker, self.lease_ms = QUEUED, self.attempt + 1, None, None


class Jobs(RuleBasedStateMachine):
    ids = Bundle("ids")
    attempts = st.integers(0, 2)  # how far behind the present attempt the caller is

    def __init__(self, engine):
        super().__init__()
        self.session = Session(engine)
        self.account = create_account(self.session, "ada", NOW)
        self.now_ms = NOW
        self.known: dict[str, Known] = {}
        self.before: dict[str, JobState] = {}

    def teardown(self):
        self.session.close()

    @rule(target=ids, wait_ms=st.none() | st.integers(1, 3 * LEASE_MS), store=st.booleans())
    def submit(self, wait_ms, store):
        deadline = None if wait_ms is None else self.now_ms + wait_ms
        job = new_job(
            self.session,
            self.account,
            created_ms=self.now_ms,
            deadline_ms=deadline,
            store=store,
            webhook_url="https://a.b",
        )
        jobs.submit(self.session, [job])
        self.known[job.id] = Known(deadline, store)
        return job.id

    @rule(passed_ms=st.integers(1, LEASE_MS + 1))
    def time_passes(self, passed_ms):
        self.now_ms += passed_ms

    @rule(job_id=ids, worker=st.sampled_from(WORKERS))
    def claim(self, job_id, worker):
        job = self.known[job_id]
        told = jobs.claim(self.session, job_id, worker, self.now_ms)
        assert (told is not None) is (job.state is QUEUED and not self.late(job))
        if told is not None:
            assert told.attempt == job.attempt
            job.state, job.worker, job.lease_ms = IN_PROGRESS, worker, self.now_ms + LEASE_MS

    @rule(worker=st.sampled_from(WORKERS))
    def renew(self, worker):
        held = {job_id for job_id, job in self.known.items() if job.state is IN_PROGRESS and job.worker == worker}
        told = jobs.renew(self.session, worker, list(self.known), self.now_ms)
        assert {(each.id, each.attempt, each.cancel_requested) for each in told} == {
            (job_id, self.known[job_id].attempt, self.known[job_id].wish) for job_id in held
        }
        for job_id in held:
            self.known[job_id].lease_ms = self.now_ms + LEASE_MS

    @rule(job_id=ids, behind=attempts, end=st.sampled_from(sorted(FINAL)))
    def finish(self, job_id, behind, end):
        job = self.known[job_id]
        self.now_ms += 1  # by its time an end knows itself again
        ending = Ending(end, self.now_ms, answers=[spoken("hi")])
        told = jobs.finish(self.session, job_id, job.attempt - behind, ending)
        assert told is (job.state is IN_PROGRESS and behind == 0)
        assert jobs.finish(self.session, job_id, job.attempt - behind, ending) is told, "a repetition changes nothing"
        if told:
            job.end(end)

    @rule(job_id=ids, behind=attempts)
    def hand_back(self, job_id, behind):
        job = self.known[job_id]
        told = jobs.hand_back(self.session, job_id, job.attempt - behind, self.now_ms, LOST)
        assert (told is not None) is (job.state is IN_PROGRESS and behind == 0)
        if told is not None:
            job.lose()
            assert (told.state, told.attempt) == (job.state, job.attempt)

    @rule()
    def reclaim(self):
        lost = {job_id for job_id, job in self.known.items() if job.lease_ms is not None and job.lease_ms < self.now_ms}
        assert {move.id for move in jobs.reclaim(self.session, self.now_ms, LOST)} == lost
        for job_id in lost:
            self.known[job_id].lose()

    @rule(job_id=ids)
    def cancel(self, job_id):
        job = self.known[job_id]
        if job.state is QUEUED:
            job.end(JobState.CANCELLED)
        job.wish = job.wish or job.state is IN_PROGRESS
        told = jobs.cancel(self.session, self.account, job_id, self.now_ms)
        assert (told.state, told.attempt) == (job.state, job.attempt)

    @rule()
    def expire(self):
        late = {job_id for job_id, job in self.known.items() if job.state is QUEUED and self.late(job)}
        assert {move.id for move in jobs.expire_queued(self.session, self.now_ms, LOST)} == late
        for job_id in late:
            self.known[job_id].end(JobState.EXPIRED)

    def late(self, job):
        return job.deadline_ms is not None and job.deadline_ms <= self.now_ms

    @invariant()
    def the_rows_are_as_the_model_says(self):
        columns = (Job.id, Job.state, Job.attempt, Job.lease_until_ms, Job.cancel_requested_ms)
        rows = {row.id: row for row in self.session.execute(select(*columns))}
        assert rows.keys() == self.known.keys()
        for job_id, job in self.known.items():
            row = rows[job_id]
            assert (row.state, row.attempt, row.lease_until_ms) == (job.state, job.attempt, job.lease_ms)
            assert (row.cancel_requested_ms is not None) is job.wish
            assert not (job.state is QUEUED and job.wish), "nobody would ever end it"

    @invariant()
    def every_step_was_one_of_the_table(self):
        for job_id, job in self.known.items():
            before = self.before.get(job_id, QUEUED)
            assert job.state is before or job.state in TRANSITIONS[before]
            self.before[job_id] = job.state

    @invariant()
    def every_end_has_one_delivery_and_its_turn_if_it_is_stored(self):
        ended = {job_id: job for job_id, job in self.known.items() if job.state in FINAL}
        told = self.session.execute(select(Delivery.job_id, Delivery.type)).all()
        assert sorted(tuple(each) for each in told) == sorted(
            (job_id, f"chat.completion.{job.state}") for job_id, job in ended.items()
        )
        turns = self.session.scalars(select(Turn.job_id)).all()
        assert sorted(turns) == sorted(job_id for job_id, job in ended.items() if job.store)


@pytest.mark.parametrize(("database_kind", "examples"), [("sqlite", 40), ("postgres", 10)], indirect=["database_kind"])
def test_jobs_follow_the_model(migrated, examples):
    unhurried = settings(
        max_examples=examples, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(lambda: Jobs(migrated.engine), settings=unhurried)
