"""What do graders say of answers, and of specifications that are wrong?"""

import pytest

from models.errors import InvalidRequest
from models.grading import KINDS, Grade, grader_of

SPACE = {
    "item": {"question": "2 + 2?", "answer": "Four", "reference": "It is four."},
    "sample": {"output_text": "it is four", "output_json": None, "output_tools": [], "model": "m"},
}


def check(operation, reference, text="{{sample.output_text}}", **more):
    spec = {"type": "string_check", "name": "check", "operation": operation, "input": text, "reference": reference}
    return spec | more


def graded(spec, space=SPACE, **replies):
    return grader_of(spec).grade(space, replies)


@pytest.mark.parametrize(
    ("operation", "reference", "passed"),
    [
        ("eq", "it is four", True),
        ("eq", "It is four", False),
        ("ne", "{{item.answer}}", True),
        ("like", "four", True),
        ("like", "{{item.answer}}", False),
        ("ilike", "{{item.answer}}", True),
        ("ilike", "five", False),
    ],
)
def test_string_checks(operation, reference, passed):
    assert graded(check(operation, reference)) == Grade("check", float(passed), passed=passed)


@pytest.mark.parametrize(("threshold", "passed"), [(0.5, True), (0.99, False), (None, True)])
def test_a_score_passes_at_its_threshold(threshold, passed):
    spec = {
        "type": "text_similarity",
        "name": "near",
        "input": "{{sample.output_text}}",
        "reference": "{{item.reference}}",
        "evaluation_metric": "fuzzy_match",
        "pass_threshold": threshold,
    }
    grade = graded(spec)
    assert grade.passed is passed
    assert 0.8 < grade.score < 0.99


def test_what_an_item_lacks_is_an_error_and_what_an_answer_lacks_a_failure():
    assert graded(check("eq", "{{item.nope}}")).error == "there is no item.nope"
    failed = graded(check("eq", "x", "{{sample.output_json.total}}"))
    assert failed == Grade("check", 0, passed=False, detail={"missing": "sample.output_json.total"})


def test_expressions_take_the_place_of_programs():
    spec = {"type": "expression", "name": "short", "expression": "len(words(sample.output_text)) <= 3"}
    assert graded(spec).passed
    grade = graded(spec | {"expression": "1 / len(words(sample.output_text))", "pass_threshold": 0.3})
    assert (round(grade.score, 3), grade.passed) == (0.333, True)
    assert "cannot be computed" in graded(spec | {"expression": "1 / 0"}).error
    assert "neither a number" in graded(spec | {"expression": "sample.output_text"}).error


def test_answers_are_held_against_a_schema():
    spec = {"type": "json_schema", "name": "shape", "input": "{{sample.output_text}}", "schema": {"required": ["a"]}}
    assert graded(spec | {"input": '{"a": 1}'}).passed
    assert graded(spec | {"input": "{}"}).detail == {"problem": "$: 'a' is a required property"}
    assert graded(spec).detail["problem"].startswith("not JSON")
    assert graded(spec).error is None, "the answer has been judged"


def multi(formula, **graders):
    return {"type": "multi", "name": "both", "graders": graders, "calculate_output": formula}


def test_several_graders_make_one_score():
    yes, no = check("eq", "a", "a"), check("eq", "a", "b")
    assert graded(multi("(yes + 2 * no) / 3", yes=yes, no=no)).score == pytest.approx(1 / 3)
    assert graded(multi("(yes + 1)^2 - no", yes=yes, no=no)).score == 4
    assert graded(multi("max(yes, no)", yes=yes, no=no)).passed
    listed = multi("check") | {"graders": [yes]}
    assert graded(listed).score == graded(listed | {"graders": yes}).score == 1


def test_without_one_judgement_there_is_none_of_all():
    judge = {"type": "score_model", "name": "j", "model": "m", "input": [{"role": "user", "content": "?"}]}
    spec = multi("yes + judge", yes=check("eq", "a", "a"), judge=judge)
    [question] = grader_of(spec).asks(SPACE)
    assert question.key == "judge.score"
    assert graded(spec, **{"judge.score": '{"score": 0.5}'}).score == 1.5
    lost = graded(spec, **{"judge.score": "I think"})
    assert lost.error.startswith("judge: the judge's answer cannot be read")
    assert (lost.passed, lost.detail["parse_failure"], lost.detail["graders"]["yes"]["score"]) == (False, True, 1)


@pytest.mark.parametrize(
    ("spec", "param"),
    [
        (None, "type"),
        ({"type": "nope"}, "type"),
        ({"type": ["multi"]}, "type"),
        ({"type": "python", "name": "x", "source": "def grade(sample, item): return 1"}, "type"),
        (check("eq", "x") | {"name": ""}, "name"),
        (check("same", "x"), "operation"),
        (check("eq", None), "reference"),
        (check("eq", "{{ nope.x }}"), "reference"),
        (check("eq", "x", "{{ item.x() }}"), "input"),
        (check("eq", "x", pass_threshold="high"), "pass_threshold"),
        (check("eq", "x" * 200_000), "reference"),
        (check("eq", "x") | {"type": "text_similarity", "evaluation_metric": "vibes"}, "evaluation_metric"),
        ({"type": "expression", "name": "e", "expression": "nope + 1"}, "expression"),
        ({"type": "json_schema", "name": "e", "input": "", "schema": []}, "schema"),
        (multi("a", a=check("eq", "x", "{{x}}")), "graders.a.input"),
        (multi("a", a=multi("b", b=check("eq", "x"))), "graders.a.type"),
        (multi("b", a=check("eq", "x")), "calculate_output"),
        (multi("'a'", a=check("eq", "x")), "calculate_output"),
        (multi("a", **{"a b": check("eq", "x")}), "graders.a b"),
        (multi("a"), "graders"),
        (multi("1", **{"k" * 201: check("eq", "x")}), "graders"),
        (multi("check") | {"graders": [check("eq", "x")] * 2}, "graders[1]"),
    ],
)
def test_a_wrong_specification_is_refused_by_its_field(spec, param):
    with pytest.raises(InvalidRequest) as caught:
        grader_of(spec)
    assert caught.value.param == param


def test_python_is_refused_with_what_to_do():
    with pytest.raises(InvalidRequest, match="write an expression"):
        grader_of({"type": "python", "name": "x", "source": "..."})


def test_the_kinds_are_openais_and_ours():
    openai = {"string_check", "text_similarity", "label_model", "score_model", "multi"}
    assert set(KINDS) == openai | {"expression", "json_schema", "pair_model"}
