"""Which bodies are evals and runs, which are AIGateway's, and what is refused by name."""

import pytest

from models.errors import InvalidRequest
from models.grading import KINDS
from models.tables.evals import Metric
from models.wire.criteria import _FIELDS, check_fields
from models.wire.evals import EvalRequest, ShorthandRequest, is_shorthand, run_request
from models.wire.problems import validated
from models.wire.shorthand import as_eval, as_runs

RIGHT = {"type": "string_check", "name": "right"}
LOGS = {"type": "logs", "metadata": {"a": "b"}}
ASK = {"type": "template", "template": [{"role": "user", "content": "{{item.a}}"}]}
INLINE = {"type": "file_content", "content": [{"item": {"a": 1}}]}
SHORT = {"name": "n", "candidate_models": ["a", "b"], "dataset": [{"input": "q", "expected": "x"}]}


def asked(message):
    return {"type": "template", "template": [message]}


def run(**changes):
    return {"data_source": {"type": "completions", "source": INLINE, "model": "m", "input_messages": ASK} | changes}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "data_source_config"),
        ({"data_source_config": LOGS, "testing_criteria": []}, "testing_criteria"),
        ({"data_source_config": {"type": "odd"}, "testing_criteria": [RIGHT]}, "data_source_config.type"),
        ({"data_source_config": {"type": "custom"}, "testing_criteria": [RIGHT]}, "data_source_config.item_schema"),
        ({"data_source_config": LOGS | {"item_schema": {}}, "testing_criteria": [RIGHT]}, "data_source_config.item_schema"),
        ({"data_source_config": LOGS, "testing_criteria": [RIGHT], "color": 1}, "color"),
        ({"data_source_config": LOGS, "testing_criteria": [RIGHT], "metadata": {"a": 1}}, "metadata.a"),
    ],
)  # fmt: skip
def test_what_is_no_eval_is_told_by_its_place(body, param):
    with pytest.raises(InvalidRequest) as wrong:
        validated(EvalRequest, body)
    assert wrong.value.param == param


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "data_source"),
        ({"data_source": {"type": "responses", "source": {"type": "responses"}}}, "data_source.source.type"),
        (run(type="responses", source={"type": "stored_completions"}), "data_source.source.type"),
        (run(sampling_params={"text": {}}), "data_source.sampling_params.text"),
        ({"data_source": {"type": "odd"}}, "data_source.type"),
        ({"data_source": {"type": "jsonl", "source": INLINE, "model": "m"}}, "data_source.model"),
        ({"data_source": {"type": "jsonl", "source": {"type": "stored_completions"}}}, "data_source.source.type"),
        (run(source={"type": "file_content", "content": []}), "data_source.source.content"),
        (run(source={"type": "file_content", "content": [{"item": 1}]}), "data_source.source.content[0].item"),
        (run(source={"type": "file_id"}), "data_source.source.id"),
        (run(source={"type": "stored_completions", "limit": 0}), "data_source.source.limit"),
        (run(input_messages={"type": "item_reference"}), "data_source.input_messages.item_reference"),
        (run(input_messages=asked({"content": "hi"})), "data_source.input_messages.template[0].role"),
        (run(input_messages=asked({"role": ["user"], "content": "hi"})), "data_source.input_messages.template[0].role"),
        (
            run(input_messages=asked({"role": "user", "content": [{"type": ["text"], "text": "hi"}]})),
            "data_source.input_messages.template[0].content[0].type",
        ),
        (run(input_messages=None), "data_source.input_messages"),
        (run(model=None), "data_source.input_messages"),
        (run(model=None, input_messages=None, sampling_params={"seed": 1}), "data_source.sampling_params"),
        (run(sampling_params={"n": 2}), "data_source.sampling_params.n"),
        (run(sampling_params={"reasoning_effort": "low"}), "data_source.sampling_params.reasoning_effort"),
        (run() | {"tier": "flex"}, "tier"),
    ],
)
def test_what_is_no_run_is_told_by_its_place(body, param):
    with pytest.raises(InvalidRequest) as wrong:
        run_request(body)
    assert wrong.value.param == param


@pytest.mark.parametrize(
    ("spec", "param"),
    [
        (RIGHT | {"color": 1}, "c.color"),
        (RIGHT | {"labels": []}, "c.labels"),
        ({"type": "multi", "name": "m", "graders": [RIGHT, RIGHT | {"x": 1}]}, "c.graders[1].x"),
        ({"type": "multi", "name": "m", "graders": {"a": RIGHT | {"x": 1}}}, "c.graders.a.x"),
        ({"type": "multi", "name": "m", "graders": RIGHT | {"x": 1}}, "c.graders.x"),
    ],
)
def test_a_field_that_no_grader_reads_is_refused(spec, param):
    with pytest.raises(InvalidRequest) as wrong:
        check_fields(spec, "c")
    assert (wrong.value.param, wrong.value.own_code) == (param, "unsupported_parameter")
    check_fields(RIGHT | {"pass_threshold": 1}, "c")


@pytest.mark.parametrize(
    "content",
    [
        "hi {{item.a}}",
        {"type": "input_text", "text": "hi"},
        ["hi", {"type": "output_text", "text": "hi"}, {"type": "text", "text": "hi"}],
        [{"type": "input_image", "image_url": "{{item.a}}", "detail": "low"}],
        [{"type": "image_url", "image_url": {"url": "{{item.a}}"}}],
    ],
)
def test_a_template_is_kept_as_it_came(content):
    message = {"type": "message", "role": "user", "content": content}
    wanted = run_request(run(input_messages=asked(message)))
    assert wanted.data_source.input_messages.model_dump(exclude_none=True)["template"] == [message]


def test_every_kind_of_grader_has_its_fields():
    assert set(_FIELDS) == set(KINDS)


def test_a_parameter_that_is_null_is_not_given():
    assert (
        run_request(run(sampling_params={"reasoning_effort": None, "seed": 5})).data_source.sampling_params["seed"] == 5
    )


def test_the_two_bodies_are_told_apart():
    assert is_shorthand(SHORT) is True
    assert is_shorthand({"testing_criteria": [], "data_source_config": {}}) is False
    assert is_shorthand({}) is False
    with pytest.raises(InvalidRequest) as wrong:
        is_shorthand(SHORT | {"testing_criteria": []})
    assert wrong.value.param == "candidate_models"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"candidate_models": ["a", "a"]}, "candidate_models"),
        ({"candidate_models": list("abc"), "dataset": [{"input": "q"}] * 6_667}, "dataset"),
        ({"dataset": [{"input": "q", "expected": "x"}, {"input": "q"}]}, "dataset[1].expected"),
        ({"dataset": [{"input": ""}]}, "dataset[0].input"),
        ({"metric": "beauty"}, "metric"),
    ],
)
def test_what_is_no_shorthand_is_told_by_its_place(changes, param):
    with pytest.raises(InvalidRequest) as wrong:
        validated(ShorthandRequest, SHORT | changes)
    assert wrong.value.param == param


@pytest.mark.parametrize(
    ("metric", "expected", "name"),
    [
        (Metric.QUALITY, "x", "expected"),
        (Metric.COST, "x", "expected"),
        (Metric.QUALITY, None, "quality"),
        (Metric.SPEED, None, "answered"),
    ],
)
def test_a_shorthand_becomes_an_eval_whose_criterion_fits_it(metric, expected, name):
    row = {"input": "q"} | ({"expected": expected} if expected else {})
    wanted = validated(ShorthandRequest, SHORT | {"dataset": [row], "metric": metric.value})
    (criterion,) = as_eval(wanted, "judge").testing_criteria
    assert criterion["name"] == name
    assert (criterion.get("model") == "judge") is (name == "quality")


def test_each_candidate_has_a_run_over_the_same_rows():
    runs = as_runs(validated(ShorthandRequest, SHORT))
    assert [each.data_source.model for each in runs] == ["a", "b"]
    (row,) = runs[1].data_source.source.content
    assert row.item == {"input": [{"role": "user", "content": "q"}], "expected": "x"}
