"""Is what a pattern finds the same whatever brackets it has?"""

import pytest

from models.errors import InvalidRequest
from models.grading.patterns import count_in, first_in, found_in

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
