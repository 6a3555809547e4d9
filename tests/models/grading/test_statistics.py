"""Do the intervals hold what they promise, and does a comparison find differences that are there and none that are not?"""

import time
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.grading.statistics import FEW, Estimate, estimate, grouped, paired, quantiles

SCORES = st.lists(st.floats(0, 1), min_size=2, max_size=30)


def test_wilsons_interval_is_the_textbooks():
    found = estimate([1.0] * 8 + [0.0] * 2)
    assert found.method == "wilson"
    assert (found.mean, round(found.low, 4), round(found.high, 4)) == (0.8, 0.4902, 0.9433)


def test_all_passed_is_not_certainty():
    found = estimate([1.0] * 10)
    assert round(found.low, 3) == 0.722
    assert found.high == pytest.approx(1)


def test_values_that_do_not_vary_have_no_interval():
    assert estimate([0.5] * 10) == Estimate(10, 0.5)
    assert estimate([0.5]) == Estimate(1, 0.5)
    assert estimate([]) == Estimate(0, None)
    same = paired([0.25] * 4, [0.75] * 4)
    assert (same.difference, same.low, same.high, same.wins) == (0.5, None, None, 4)
    assert paired([], []).p_value is None


@pytest.mark.parametrize(("n", "few"), [(FEW - 1, True), (FEW, False)])
def test_few_items_say_so(n, few):
    assert estimate([0.5] * n).few is few
    assert paired([0.5] * n, [0.4] * n).few is few


def test_intervals_hold_the_truth_as_often_as_they_say():
    drawing = np.random.default_rng(7)
    found = [estimate(drawing.beta(2, 5, 60)) for _ in range(200)]
    share = sum(each.low <= 2 / 7 <= each.high for each in found) / len(found)
    assert 0.90 <= share <= 0.99


def test_the_same_scores_give_the_same_numbers():
    values = list(np.random.default_rng(1).random(100))
    assert estimate(values) == estimate(values)
    assert paired(values, values[::-1]) == paired(values, values[::-1])


def test_pairing_finds_what_means_alone_would_not():
    drawing = np.random.default_rng(3)
    first = drawing.random(100)
    second = first + 0.02 + drawing.normal(0, 0.01, 100)
    found = paired(first, second)
    assert 0 < found.low < found.difference < found.high
    assert found.p_value < 0.001
    assert estimate(first).high > estimate(second).low, "apart they overlap"


def test_chance_is_not_taken_for_a_difference():
    drawing = np.random.default_rng(5)
    p_values = [paired(drawing.random(40), drawing.random(40)).p_value for _ in range(100)]
    assert sum(p < 0.05 for p in p_values) <= 12


@settings(deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=8))
def test_few_pairs_are_flipped_in_every_way(differences):
    found = paired([0] * len(differences), differences)
    sums = [
        sum(s * d for s, d in zip(signs, differences, strict=True))
        for signs in product((1, -1), repeat=len(differences))
    ]
    expected = sum(abs(each) >= abs(sum(differences)) for each in sums) / len(sums)
    assert found.exact
    assert found.p_value == pytest.approx(expected)
    assert (found.wins, found.losses) == (sum(d > 0 for d in differences), sum(d < 0 for d in differences))
    assert found.wins + found.ties + found.losses == found.n == len(differences)


@settings(deadline=None)
@given(SCORES)
def test_an_interval_holds_its_mean(scores):
    found = estimate(scores)
    if found.low is not None:
        assert found.low - 1e-9 <= found.mean <= found.high + 1e-9


@settings(deadline=None)
@given(SCORES)
def test_the_other_way_round_is_the_opposite(scores):
    there, back = paired(scores, scores[::-1]), paired(scores[::-1], scores)
    assert there.difference == pytest.approx(-back.difference, abs=1e-9)
    assert (there.wins, there.losses) == (back.losses, back.wins)


def test_ten_thousand_items_take_seconds():
    drawing = np.random.default_rng(9)
    first, second = drawing.random(10_000), drawing.random(10_000)
    begun = time.thread_time()
    paired(first, second)
    assert time.thread_time() - begun < 10


def test_quantiles_and_groups():
    assert quantiles([1, 2, 3, 4]) == {"mean": 2.5, "p50": 2.5, "p95": pytest.approx(3.85)}
    assert quantiles([]) == {"mean": None, "p50": None, "p95": None}
    assert grouped(["b", "a", "b"], [1, 2, 3]) == {"b": [1, 3], "a": [2]}
