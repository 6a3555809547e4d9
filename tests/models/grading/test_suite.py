"""Is a suite that is wrong refused by the field that is, and does a right one ask what it says?"""

import pytest

from models.errors import InvalidRequest
from models.grading.results import Threshold
from models.grading.suite import digest, eval_body, messages_of, run_body, suite_of

CHECK = {
    "type": "string_check",
    "name": "right",
    "operation": "eq",
    "input": "{{sample.output_text}}",
    "reference": "4",
}
SUITE = {
    "name": "sums",
    "dataset": {"items": [{"q": "2 + 2"}]},
    "prompt": "{{item.q}}?",
    "variants": [
        {"name": "plain", "model": "m", "parameters": {"temperature": 0}},
        {"name": "polite", "model": "m", "system": "Be kind to {{item.q}}."},
        {"name": "other", "model": "n", "messages": [{"role": "user", "content": "What is {{item.q}}?"}]},
    ],
    "graders": [CHECK],
}
ROWS = [{"q": "2 + 2"}]


def test_a_suite_becomes_an_eval_and_its_runs():
    suite = suite_of(SUITE)
    asked = eval_body(suite, {"a": "b"})
    assert (asked["name"], asked["testing_criteria"], asked["metadata"]) == ("sums", [CHECK], {"a": "b"})
    run = run_body(suite, suite.variants[0], {"type": "file_id", "id": "file_1"}, {})
    assert run["data_source"] == {
        "type": "completions",
        "source": {"type": "file_id", "id": "file_1"},
        "input_messages": {"type": "template", "template": [{"role": "user", "content": "{{item.q}}?"}]},
        "model": "m",
        "sampling_params": {"temperature": 0},
    }


def test_variants_may_say_it_their_own_way():
    suite = suite_of(SUITE)
    said = [[message["content"] for message in messages_of(suite, variant)] for variant in suite.variants]
    assert said == [["{{item.q}}?"], ["Be kind to {{item.q}}.", "{{item.q}}?"], ["What is {{item.q}}?"]]


def test_thresholds_are_what_results_hold_runs_against():
    wanted = [{"grader": "right", "mean": 0.5}, {"grader": "right", "variant": "polite", "not_worse_by": 0.1}]
    assert suite_of(SUITE | {"thresholds": wanted}).demands() == [
        Threshold("right", mean=0.5),
        Threshold("right", run="polite", not_worse_by=0.1),
    ]


def test_a_digest_is_of_what_is_asked():
    mark = digest(suite_of(SUITE), ROWS)
    assert mark == digest(suite_of(SUITE | {"slices": ["item.q"], "errors_most": 0.5}), ROWS)
    assert mark != digest(suite_of(SUITE), [*ROWS, {"q": "3"}])
    assert mark != digest(suite_of(SUITE | {"prompt": "{{item.q}}!"}), ROWS)
    assert mark != digest(suite_of(SUITE | {"graders": [CHECK | {"reference": "5"}]}), ROWS)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": ""}, "name"),
        ({"nope": 1}, "nope"),
        ({"dataset": {}}, "dataset"),
        ({"dataset": {"path": "a", "items": []}}, "dataset"),
        ({"dataset": {"items": [], "limit": 0}}, "dataset.limit"),
        ({"variants": []}, "variants"),
        ({"variants": [SUITE["variants"][0]] * 2}, "variants: a name stands there twice"),
        ({"graders": [CHECK, CHECK]}, "graders: a name stands there twice"),
        ({"graders": [CHECK | {"operation": "is"}]}, "graders[0].operation"),
        ({"graders": [CHECK | {"pattern": "x"}]}, "graders[0].pattern"),
        ({"prompt": None}, "prompt: neither"),
        ({"messages": [{"role": "user", "content": "x"}]}, "prompt: the suite has messages"),
        ({"prompt": "{{sample.output_text}}"}, "messages: 'sample' is not known"),
        ({"slices": ["item level"]}, "item level"),
        ({"slices": ["level"]}, "'level' is no path into the item"),
        ({"thresholds": [{"grader": "right"}]}, "thresholds"),
        ({"thresholds": [{"grader": "nope", "mean": 1}]}, "thresholds[0].grader"),
        ({"thresholds": [{"grader": "right", "variant": "nope", "mean": 1}]}, "thresholds[0].variant"),
        ({"thresholds": [{"grader": "right", "variant": "plain", "not_worse_by": 1}]}, "thresholds[0]: the first"),
        ({"errors_most": 2}, "errors_most"),
    ],
)
def test_a_wrong_suite_is_refused_in_words(change, said):
    with pytest.raises(InvalidRequest) as caught:
        suite_of(SUITE | change)
    assert said in caught.value.message


def test_what_is_no_suite_at_all():
    with pytest.raises(InvalidRequest, match="a suite is a mapping"):
        suite_of(["x"])
