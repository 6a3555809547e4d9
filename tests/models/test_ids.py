"""Ids sort by the time they were made, look alike, and lead from a job to its completion and back."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import ids

CROCKFORD = re.compile(r"[0-9abcdefghjkmnpqrstvwxyz]{26}")
moments = st.integers(0, 2**48 - 1)  # until the year 10889


@given(moments, moments)
def test_an_id_made_later_sorts_later(one, other):
    earlier, later = sorted((one, other))
    assert earlier == later or ids.suffix(earlier) < ids.suffix(later)


@given(moments)
def test_the_suffix_is_26_characters_that_nobody_mistakes(moment):
    assert CROCKFORD.fullmatch(ids.suffix(moment))


def test_the_first_ten_characters_are_the_time():
    """As in ULID, whose specification gives the second of these as its example."""
    assert ids.suffix(0)[:10] == "0000000000"
    assert ids.suffix(1469918176385)[:10] == "01aryz6s41"
    assert ids.suffix(2**48 - 1)[:10] == "7zzzzzzzzz"


def test_ids_of_one_millisecond_differ():
    assert len({ids.suffix(1) for _ in range(10_000)}) == 10_000


def test_a_new_id_says_what_it_names():
    job, key = ids.new("job"), ids.new("key")
    assert re.fullmatch(r"job_.{26}", job)
    assert re.fullmatch(r"key_.{26}", key)


@pytest.mark.parametrize("name", ["job_01arzddcyhabcdefghjkmnpqrs", "chatcmpl-01arzddcyhabcdefghjkmnpqrs"])
def test_a_job_is_found_by_its_own_id_and_by_its_completions(name):
    assert ids.job_of(name) == "job_01arzddcyhabcdefghjkmnpqrs"
    assert ids.completion_of(ids.job_of(name)) == "chatcmpl-01arzddcyhabcdefghjkmnpqrs"


def test_what_is_no_completion_is_taken_for_a_job():
    assert ids.job_of("") == ""
    assert ids.job_of("rpl_1") == "rpl_1"


@pytest.mark.parametrize("name", ["job_01arzddcyhabcdefghjkmnpqrs", "cmpl-01arzddcyhabcdefghjkmnpqrs"])
def test_a_job_is_found_by_the_id_of_a_text(name):
    assert ids.job_of(name) == "job_01arzddcyhabcdefghjkmnpqrs"


@given(st.integers(1, ids.SERIES_MOST))
def test_one_name_stands_for_a_series(count):
    made = ids.series("job", count)
    assert len({*made}) == count
    assert made == sorted(made)
    assert all(re.fullmatch(rf"job_{CROCKFORD.pattern}", each) for each in made)
    name = ids.series_name(made[0], count)
    assert ids.series_named("job", name) == made
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", name), "a UUID, as Cloudflare's are"


def test_a_series_is_made_when_it_is():
    before, (made,), after = ids.new("job"), ids.series("job", 1), ids.new("job")
    assert before[:14] <= made[:14] <= after[:14]


@pytest.mark.parametrize("name", ["", "x", "job_1", "0" * 32, "g" * 32])
def test_what_is_no_name_stands_for_nothing(name):
    assert ids.series_named("job", name) == []
