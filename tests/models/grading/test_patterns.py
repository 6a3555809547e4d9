"""Is what a pattern may cost told beforehand, and is what it finds the same whatever brackets it has?"""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InvalidRequest
from models.grading.language import Expression
from models.grading.patterns import PATTERN_CHARACTERS, count_in, first_in, found_in, steps_of

FIND = Expression("matches(item.pattern, item.text)", frozenset({"item"}))
PLAIN = ["#### ?-?[0-9.,]+", "[0-9]{4}-[0-9]{2}-[0-9]{2}", "(?i)(yes|no|maybe)[.!]?$", "^Answer: .{1,200}$", r"\d+\s*%"]
DEAR = [
    "(a?){1000}b",
    "(?:a{0,30}){0,30}b",
    "(.?){1000}b",
    "(?:a?a?a?a?){250}b",
    r"(?:\pL?){100}b",
    r"\Q[\E(a?){1000}b]",
    f"(?:{'(?:aa|a|)' * 90}){{100}}b",
]


@pytest.mark.parametrize("pattern", PLAIN)
def test_plain_patterns_search_long_answers(pattern):
    assert FIND.value({"item": {"pattern": pattern, "text": "Answer: 12 " * 2_000}}) in {True, False}


@pytest.mark.parametrize("pattern", DEAR)
def test_patterns_of_many_states_do_not(pattern):
    with pytest.raises(InvalidRequest, match="too many steps"):
        FIND.value({"item": {"pattern": pattern, "text": "a" * 100_000}})


@pytest.mark.parametrize("pattern", DEAR)
def test_a_search_takes_no_longer_than_was_told(pattern):
    found_in("a", "a")  # the first one in a process loads RE2
    text, begun = "a" * 1_000, time.thread_time()
    found_in(pattern, text)
    slack = 5  # a slow machine's microseconds
    assert (time.thread_time() - begun) * 1e6 < slack * steps_of(pattern, text)


@given(st.text(alphabet="a?(){}[]0123456789,\\pL.*+|^é", max_size=60) | st.text(max_size=PATTERN_CHARACTERS))
def test_any_text_has_a_cost(pattern):
    assert steps_of(pattern, "a" * 100) >= 0


TEXT = "xxacParis (x) Q(a) ]"


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("(Paris)", "Paris"),
        ("(a|b)c", "ac"),
        ("((?i)PA(R)is)", "Paris"),
        ("(?:a|b)c", "ac"),
        ("(?P<x>a)c", "ac"),
        (r"\((x)\)", "(x)"),
        ("[(]x", "(x"),
        ("[^(]]", " ]"),
        ("z(z)", None),
        ("[](]x", "(x"),
        ("[^](]P", "cP"),
        (r"[\](]x", "(x"),
        ("[[:alpha:](]+", "xxacParis"),
        (r"Q\Q(a)\E( )]", "Q(a) ]"),
        ("(y)?", ""),
    ],
)
def test_the_first_match_is_the_whole_patterns(pattern, found):
    assert first_in(pattern, TEXT) == found
    assert found_in(pattern, TEXT) is (found is not None)


@pytest.mark.parametrize("pattern", ["(", "a)", "[(", "(?=a)", r"(a)\1", "a" * 1001])
def test_what_is_no_pattern_is_told(pattern):
    for ask in (first_in, found_in, count_in):
        with pytest.raises(InvalidRequest):
            ask(pattern, TEXT)
