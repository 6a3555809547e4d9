"""What is a judge asked, and what is made of what it says?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InvalidRequest
from models.grading import grader_of

SPACE = {"item": {"q": "2 + 2?", "a": "4"}, "sample": {"output_text": "four"}}
SAYING = [{"role": "system", "content": "Judge."}, {"role": "user", "content": "{{item.q}} {{sample.output_text}}"}]
LABEL = {
    "type": "label_model",
    "name": "tone",
    "model": "judge",
    "input": SAYING,
    "labels": ["good", "bad"],
    "passing_labels": ["good"],
}
SCORE = {"type": "score_model", "name": "mark", "model": "judge", "input": SAYING, "range": [1, 5]}
PAIR = {
    "type": "pair_model",
    "name": "duel",
    "model": "judge",
    "reference": "{{item.a}}",
    "input": [{"role": "user", "content": "{{item.q}} A: {{first}} B: {{second}}"}],
}


def wanted(question):
    return question.body["response_format"]["json_schema"]["schema"]["properties"]


def test_a_label_is_asked_for_as_json():
    [question] = grader_of(LABEL).asks(SPACE)
    assert question.key == "label"
    assert question.body["model"] == "judge"
    assert question.body["messages"][1] == {"role": "user", "content": "2 + 2? four"}
    assert question.body["temperature"] == 0
    assert wanted(question) == {"label": {"type": "string", "enum": ["good", "bad"]}}


def test_a_score_is_asked_for_within_its_range():
    [question] = grader_of(SCORE).asks(SPACE)
    assert wanted(question) == {"score": {"type": "number", "minimum": 1, "maximum": 5}}


@pytest.mark.parametrize(("said", "passed"), [("good", True), ("bad", False)])
def test_a_label_passes_or_does_not(said, passed):
    reply = f'{{"label": "{said}"}}'
    grade = grader_of(LABEL).grade(SPACE, {"label": reply})
    words = {"label": said, "output": [{"role": "assistant", "content": reply}]}
    assert (grade.passed, grade.score, grade.detail, grade.error) == (passed, passed, words, None)


@pytest.mark.parametrize(("said", "passed"), [("3", True), ("2.9", False), ("5", True)])
def test_a_score_passes_in_the_upper_half_of_its_range(said, passed):
    grade = grader_of(SCORE).grade(SPACE, {"score": f'{{"score": {said}}}'})
    assert (grade.score, grade.passed) == (float(said), passed)


@pytest.mark.parametrize(
    "said", [None, "", "4", "good", '{"label": 3', "[]", '{"score": 9}', '{"score": true}', '{"score": "4"}', "{}"]
)
@pytest.mark.parametrize("spec", [LABEL, SCORE])
def test_what_cannot_be_read_is_an_error_and_no_pass(spec, said):
    [question] = grader_of(spec).asks(SPACE)
    grade = grader_of(spec).grade(SPACE, {question.key: said})
    assert grade.error is not None
    read = {"parse_failure": True, "output": [{"role": "assistant", "content": said}]}
    assert (grade.passed, grade.score, grade.detail) == (False, 0, {} if said is None else read)


@given(st.text())
def test_no_words_of_a_judge_break_anything(said):
    for spec in (LABEL, SCORE, PAIR):
        grader = grader_of(spec)
        grade = grader.grade(SPACE, {question.key: said for question in grader.asks(SPACE)})
        assert grade.error
        assert not grade.passed


def test_sampling_is_as_told():
    given = {"temperature": 0.5, "seed": 7, "top_p": None, "max_completions_tokens": 9}
    [question] = grader_of(SCORE | {"sampling_params": given}).asks(SPACE)
    assert {name: question.body.get(name) for name in ("temperature", "seed", "top_p", "max_completion_tokens")} == {
        "temperature": 0.5,
        "seed": 7,
        "top_p": None,
        "max_completion_tokens": 9,
    }


def verdicts(as_given, swapped):
    replies = {"as_given": f'{{"better": "{as_given}"}}', "swapped": f'{{"better": "{swapped}"}}'}
    return grader_of(PAIR).grade(SPACE, replies)


def test_two_answers_are_shown_in_both_orders():
    shown = [question.body["messages"][0]["content"] for question in grader_of(PAIR).asks(SPACE)]
    assert shown == ["2 + 2? A: four B: 4", "2 + 2? A: 4 B: four"]


@pytest.mark.parametrize(
    ("as_given", "swapped", "score", "biased"),
    [
        ("first", "second", 1, False),
        ("second", "first", 0, False),
        ("tie", "tie", 0.5, False),
        ("first", "first", 0.5, True),
        ("second", "second", 0.5, True),
        ("first", "tie", 0.5, True),
    ],
)
def test_a_judge_that_prefers_a_place_says_nothing(as_given, swapped, score, biased):
    grade = verdicts(as_given, swapped)
    assert (grade.score, grade.detail["position_bias"], grade.passed) == (score, biased, score >= 0.5)


def test_one_order_lost_is_an_error():
    assert grader_of(PAIR).grade(SPACE, {"as_given": '{"better": "first"}', "swapped": None}).error


def test_nobody_is_asked_about_what_is_not_there():
    grader = grader_of(LABEL | {"input": [{"role": "user", "content": "{{item.nope}}"}]})
    assert grader.asks(SPACE) == []
    assert grader.grade(SPACE, {}).error == "there is no item.nope"


@pytest.mark.parametrize(
    ("spec", "param"),
    [
        (LABEL | {"model": None}, "model"),
        (LABEL | {"labels": []}, "labels"),
        (LABEL | {"labels": ["good", "good"]}, "labels"),
        (LABEL | {"passing_labels": ["other"]}, "passing_labels"),
        (LABEL | {"input": []}, "input"),
        (LABEL | {"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        (LABEL | {"input": [{"role": ["user"], "content": "x"}]}, "input[0].role"),
        (LABEL | {"input": [{"content": "x"}]}, "input[0].role"),
        (
            LABEL | {"input": [{"role": "user", "content": [{"type": ["text"], "text": "x"}]}]},
            "input[0].content[0].type",
        ),
        (LABEL | {"input": [{"role": "user", "content": {"type": "input_audio"}}]}, "input[0].content.type"),
        (LABEL | {"input": [{"role": "user", "content": "x", "name": "n"}]}, "input[0].name"),
        (LABEL | {"input": [{"role": "user", "content": ""}]}, "input[0]"),
        (LABEL | {"input": ["x"]}, "input[0]"),
        (LABEL | {"input": [{"role": "user", "content": "{{first}}"}]}, "input"),
        (LABEL | {"input": [{"role": "user", "content": [{"type": "input_text", "text": "{{x}}"}]}]}, "input"),
        (SCORE | {"range": [1]}, "range"),
        (SCORE | {"range": [2, 1]}, "range"),
        (SCORE | {"range": ["a", "b"]}, "range"),
        (SCORE | {"range": [0, 1e308]}, "range"),  # a sum of such scores is no number
        (SCORE | {"sampling_params": {"reasoning_effort": "low"}}, "sampling_params.reasoning_effort"),
        (SCORE | {"sampling_params": {"temperature": "hot"}}, "sampling_params.temperature"),
        (PAIR | {"reference": None}, "reference"),
    ],
)
def test_a_wrong_specification_is_refused_by_its_field(spec, param):
    with pytest.raises(InvalidRequest) as caught:
        grader_of(spec)
    assert caught.value.param == param
