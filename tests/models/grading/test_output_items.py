"""Are runs read from what `/v1/evals` tells, and back from a report's JSON?"""

import json

from models.grading.output_items import run_of, runs_in
from models.grading.report import json_of
from models.grading.results import report_of

VIEW = {
    "id": "evalrun_1",
    "eval_id": "eval_1",
    "name": "plain",
    "model": "m",
    "status": "completed",
    "data_source": {"sampling_params": {"temperature": 0}},
}


def item(content, said="four", *, error=None, **more):
    results = [{"name": "right", "type": "string_check", "score": 1.0, "passed": True, "sample": None, "error": error}]
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "cached_tokens": 0}
    sample = {"output": [{"role": "assistant", "content": said}], "usage": usage, "error": None}
    return {"datasource_item": content, "results": results, "sample": sample | more, "latency_ms": 12, "cost": 0.5}


def test_a_run_is_read():
    run = run_of(VIEW, [item({"q": 1})])
    assert (run.name, run.model, run.parameters, run.id) == ("plain", "m", {"temperature": 0}, "eval_1/evalrun_1")
    [answer] = run.answers
    assert (answer.output, answer.latency_ms, answer.cost_usd) == ("four", 12, 0.5)
    assert (answer.prompt_tokens, answer.completion_tokens, answer.failing) == (3, 2, "passed")


def test_what_openai_does_not_tell_is_not_needed():
    bare = item({"q": 1})
    del bare["latency_ms"], bare["cost"]
    for result in bare["results"]:
        del result["sample"], result["error"]
    [answer] = run_of(VIEW, [bare | {"sample": {}}]).answers
    assert (answer.output, answer.latency_ms, answer.cost_usd, answer.prompt_tokens) == ("", None, None, 0)


def test_items_are_told_by_their_content_and_not_by_their_place():
    first = run_of(VIEW, [item({"q": 1, "a": 2}), item({"q": 2}), item({"q": 2})])
    second = run_of(VIEW | {"name": "b"}, [item({"q": 2}), item({"a": 2, "q": 1})])
    told = report_of("t", [first, second], created_at=0)
    assert [(each["n"], each["left_out"]) for each in told["comparisons"]] == [(2, 1)]
    assert [row["answers"][1] is None for row in told["items"]] == [False, False, True]


def test_errors_are_told():
    [lost] = run_of(VIEW, [item({"q": 1}, error="unreadable")]).answers
    assert lost.failing == "error"
    [none] = run_of(VIEW, [item({"q": 1}, None, error={"code": "engine_lost", "message": "it went away"})]).answers
    assert none.output == ""


def test_a_sample_that_was_not_made_says_why():
    [answer] = run_of(VIEW, [item({"q": 1}) | {"sample": {"error": {"message": "it went away"}, "output": []}}]).answers
    assert answer.error == "it went away"


def test_calls_are_written_out():
    calls = [{"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]
    [answer] = run_of(VIEW, [item({"q": 1}) | {"sample": {"output": calls}}]).answers
    assert answer.output == "f({})"


def test_a_report_can_be_read_back():
    runs = [run_of(VIEW, [item({"q": 1}), item({"q": 2}, error="x")]), run_of(VIEW | {"name": "b"}, [item({"q": 1})])]
    told = report_of("t", runs, created_at=0)
    assert report_of("t", runs_in(json.loads(json_of(told))), created_at=0) == told
