"""Do the metrics measure what their names say?  Against figures worked out by hand and against the libraries' own slower ways."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from models.errors import TooLarge
from models.grading.similarity import METRICS, TEXT_CHARACTERS, similarity

TEXT, REFERENCE = "the cats sat on the mat", "the cat sat on a mat"
each_metric = pytest.mark.parametrize("metric", list(METRICS))


@each_metric
def test_the_same_text_is_as_near_as_can_be(metric):
    five = "one two three four five six"
    assert similarity(metric, five, five) == pytest.approx(1, abs=0.01)  # METEOR takes a little off for every chunk


@each_metric
def test_another_text_is_far(metric):
    assert similarity(metric, "one two three four five", "xyzzy plugh") < 0.35


@each_metric
def test_nothing_is_like_nothing_only(metric):
    assert [similarity(metric, *pair) for pair in (("", " "), ("", "a"), ("a", ""))] == [1, 0, 0]


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("cosine", 5 / (8**0.5 * 6**0.5)),  # the: 2 x 1, sat, on, mat; cats is not cat
        ("rouge_1", 10 / 12),  # cats is cat when stemmed: the, cat, sat, on, mat of 6 and 6
        ("rouge_2", 6 / 10),  # the cat, cat sat, sat on
        ("rouge_3", 4 / 8),
        ("rouge_4", 2 / 6),
        ("rouge_5", 0),
        ("rouge_l", 10 / 12),
        ("fuzzy_match", 2 * 19 / 43),  # 19 characters in a common order, of 23 and 20
    ],
)
def test_figures_worked_out_by_hand(metric, expected):
    found = similarity(metric, TEXT, REFERENCE)
    assert found == pytest.approx(expected, abs=0.02 if metric == "fuzzy_match" else 1e-9)


def test_meteor_knows_stems_and_no_synonyms():
    assert similarity("meteor", "running", "runs") > 0.4
    assert similarity("meteor", "car", "automobile") == 0


def test_words_of_any_script_count():
    assert similarity("cosine", "Привет, мир", "привет мир!") == pytest.approx(1)
    assert similarity("gleu", "ÉTÉ", "été") == 1


@settings(deadline=None)  # the first one imports
@given(st.text("ab cd", max_size=60), st.text("ab cd", max_size=60))
def test_rouge_l_is_rouge_scores_own(text, reference):
    slow = RougeScorer(["rougeL"], use_stemmer=True).score(reference, text)["rougeL"].fmeasure
    if text.strip() and reference.strip():
        assert similarity("rouge_l", text, reference) == pytest.approx(slow)


@settings(deadline=None)  # the first one imports
@given(st.text(max_size=40), st.text(max_size=40), st.sampled_from(list(METRICS)))
def test_every_figure_is_from_0_to_1(text, reference, metric):
    assert 0 <= similarity(metric, text, reference) <= 1


@each_metric
def test_endless_texts_are_refused(metric):
    with pytest.raises(TooLarge):
        similarity(metric, "a " * TEXT_CHARACTERS, "a")


def test_meteor_refuses_what_would_take_minutes():
    with pytest.raises(TooLarge, match="2,000 words"):
        similarity("meteor", "a b " * 2000, "b a " * 2000)


def test_metrics_are_imported_when_they_are_needed():
    script = (
        "import sys, models.grading; print(sorted({'nltk', 'sacrebleu', 'rouge_score', 'pyarrow', 'jsonschema', "
        "'rapidfuzz', 'jinja2'} & set(sys.modules)))"
    )
    done = subprocess.run((sys.executable, "-c", script), capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
