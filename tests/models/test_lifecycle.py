"""The table of transitions: complete, without a way out of an end, without a state that cannot be reached."""

import pytest

from models.lifecycle import FINAL, TRANSITIONS, JobState

ENDS = {"completed", "failed", "cancelled", "expired"}


def test_the_table_speaks_of_every_state():
    assert set(TRANSITIONS) == set(JobState)
    assert {"queued", "in_progress", *ENDS} == set(JobState)


def test_four_states_are_ends():
    assert set(FINAL) == ENDS


@pytest.mark.parametrize("state", JobState)
def test_nothing_follows_an_end_and_something_follows_all_else(state):
    assert (not TRANSITIONS[state]) is (state in ENDS)


@pytest.mark.parametrize("before", JobState)
@pytest.mark.parametrize("after", JobState)
def test_a_step_is_allowed_only_from_the_queue_to_work_or_an_end_and_from_work_back_or_to_an_end(before, after):
    allowed = {("queued", "in_progress"), ("in_progress", "queued")}
    allowed |= {("in_progress", end) for end in ENDS} | {("queued", "cancelled"), ("queued", "expired")}
    assert (after in TRANSITIONS[before]) is ((before, after) in allowed)
