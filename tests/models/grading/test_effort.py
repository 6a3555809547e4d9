"""Does the grading of an item end, whatever its graders are?"""

import time

import pytest

from models.errors import TooLarge
from models.grading import grader_of
from models.grading.effort import Effort, go_on
from models.grading.schemas import problem

SPACE = {"item": {}, "sample": {"output_text": "{}"}}


def doubling(depth):
    steps = {f"s{n}": {"allOf": [{"$ref": f"#/$defs/s{n + 1}"}] * 2} for n in range(depth)}
    return {"$ref": "#/$defs/s0", "$defs": steps | {f"s{depth}": {}}}


def test_many_graders_share_the_time_of_an_item():
    spec = {"type": "json_schema", "input": "{{sample.output_text}}", "schema": doubling(9)}
    graders = [grader_of(spec | {"name": str(n)}) for n in range(100)]
    begun = time.thread_time()
    with Effort(0.1):
        grades = [grader.grade(SPACE, {}) for grader in graders]
    assert time.thread_time() - begun < 1
    assert (grades[0].passed, grades[-1].error) == (True, "it takes too long")


def test_the_time_that_is_over_says_nothing_of_a_value():
    with Effort(0.01), pytest.raises(TooLarge):
        problem(doubling(13), {})


@pytest.mark.parametrize(
    "schema",
    [{"properties": {f"p{n}": {"type": "string"} for n in range(500)}}, {"allOf": [{"pattern": "(a?){1000}"}] * 500}],
)
def test_many_graders_are_read_in_the_time_of_a_request(schema):
    member = {"type": "json_schema", "name": "j", "input": "x", "schema": schema}
    spec = {"type": "multi", "name": "m", "calculate_output": "j", "graders": {"j": member}}
    effort, begun = Effort(0.1), time.thread_time()
    with pytest.raises(TooLarge, match=r"^it takes too long$"):
        [effort.spend(grader_of, spec) for _ in range(200)]
    assert time.thread_time() - begun < 2


def test_what_judges_are_asked_is_counted_together():
    judge = {"type": "score_model", "model": "m", "input": [{"role": "user", "content": "z" * 400}]}
    graders = [grader_of(judge | {"name": str(n)}) for n in range(3)]
    with Effort(characters=1_000):
        asked = [grader.asks(SPACE) for grader in graders]
    with Effort(characters=1_000):
        grades = [grader.grade(SPACE, {"score": '{"score": 1}'}) for grader in graders]
    assert [len(each) for each in asked] == [1, 1, 0]
    assert [each.passed for each in grades] == [True, True, False]
    assert grades[2].error == "rendered messages come to more than 1,000 characters together"


def test_what_was_used_is_used_and_ends_with_its_request():
    effort = Effort(0.5)
    with pytest.raises(TooLarge):
        use_up(effort)
    begun = time.thread_time()
    with pytest.raises(TooLarge):
        use_up(effort)
    assert time.thread_time() - begun < 0.4
    go_on()


def use_up(effort):
    with effort:
        while True:
            go_on()
