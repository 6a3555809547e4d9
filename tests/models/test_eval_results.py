"""What is asked about an item, and what it is worth: with answers that are there, missing or unreadable, and judges that fail."""

from models.eval_items import Answered, Due
from models.eval_results import JUDGE_TOKENS, blank_tallies, broken, graded, judges_of, questions_about
from models.grading import grader_of
from models.lifecycle import JobState
from models.tables.batches import BatchRow
from models.tables.evals import EvalItem, EvalRun, Outcome
from models.tables.jobs import Job

ASK = {"type": "template", "template": [{"role": "user", "content": "What is {{item.ask}}?"}]}
SOURCE = {"type": "completions", "model": "m", "source": {"type": "file_content"}, "input_messages": ASK}
RIGHT = {
    "type": "string_check",
    "name": "right",
    "operation": "eq",
    "input": "{{sample.output_text}}",
    "reference": "{{item.wanted}}",
}
JUDGE = {
    "type": "score_model",
    "name": "judge",
    "model": "j",
    "input": [{"role": "user", "content": "{{sample.output_text}}"}],
}
GRADERS = [grader_of(RIGHT), grader_of(JUDGE)]
RUN = EvalRun(id="evalrun_1", model="m", source=SOURCE, total=3)
GIVEN = EvalRun(id="evalrun_1", model=None, source={"type": "jsonl"}, total=3)


def item(given=None):
    return EvalItem(run_id="evalrun_1", number=1, item={"ask": "it", "wanted": "42"}, given=given)


def job(name, state=JobState.COMPLETED, **facts):
    told = {"prompt_tokens": 5, "completion_tokens": 2, "cached_tokens": 1, "cost_micros": 7, "model": "m"}
    times = {"started_ms": 100, "ended_ms": 300}
    return Job(id=name, state=state, parameters={"temperature": 0.5, "max_tokens": 9}, **(told | times | facts))


def said(text):
    return {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}


def row(number, made, key=None, error=None):
    return Answered(BatchRow(number=number, detail={"key": key} if key else None, error=error), made)


def due(answer, *judged):
    return Due(item(), answer, judged)


ANSWER = row(1, job("job_a"))


def test_judges_are_asked_about_an_answer():
    asked = questions_about(RUN, GRADERS, due(ANSWER), {"job_a": said("42")})
    assert list(asked) == ["1/score"]
    assert asked["1/score"]["messages"] == [{"role": "user", "content": "42"}]
    assert asked["1/score"]["max_completion_tokens"] == JUDGE_TOKENS
    own = grader_of(JUDGE | {"sampling_params": {"max_completions_tokens": 9}})
    limited = questions_about(RUN, [own], due(ANSWER), {"job_a": said("42")})
    assert limited["0/score"]["max_completion_tokens"] == 9
    assert questions_about(RUN, GRADERS[:1], due(ANSWER), {"job_a": said("42")}) == {}


def test_nobody_is_asked_about_an_answer_that_is_not_there():
    lost = row(1, job("job_a", JobState.FAILED, error={"message": "boom", "code": "engine_error"}))
    assert questions_about(RUN, GRADERS, due(lost), {}) == {}


def test_an_item_is_worth_what_graders_and_judges_say():
    judged = row(4, job("job_j"), "1/score")
    told = graded(RUN, GRADERS, due(ANSWER, judged), {"job_a": said("42"), "job_j": said('{"score": 0.9}')})
    assert (told.outcome, told.score, told.latency_ms, told.cost_micros, told.job_id) == (
        Outcome.PASS,
        0.95,
        200,
        7,
        "job_a",
    )
    assert [(each["name"], each["passed"]) for each in told.results] == [("right", True), ("judge", True)]
    assert told.sample == {
        "input": [{"role": "user", "content": "What is it?"}],
        "output": [{"role": "assistant", "content": "42"}],
        "model": "m",
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "cached_tokens": 1, "total_tokens": 7},
        "error": None,
        "temperature": 0.5,
        "top_p": None,
        "seed": None,
        "max_completion_tokens": 9,
    }


def test_a_wrong_answer_fails_and_a_judge_who_babbles_or_is_silent_is_an_error():
    judged = row(4, job("job_j"), "1/score")
    low = graded(RUN, GRADERS, due(ANSWER, judged), {"job_a": said("42"), "job_j": said('{"score": 0.1}')})
    assert low.outcome is Outcome.FAIL
    babbles = graded(RUN, GRADERS, due(ANSWER, judged), {"job_a": said("42"), "job_j": said("Good!")})
    assert (babbles.outcome, babbles.score) == (Outcome.ERROR, 1.0)
    assert "is not JSON" in babbles.results[1]["error"]
    silent = row(4, job("job_j", JobState.FAILED, error={"message": "engine away"}), "1/score")
    told = graded(RUN, GRADERS, due(ANSWER, silent), {"job_a": said("42")})
    assert (told.outcome, told.results[0]["passed"]) == (Outcome.ERROR, True)
    assert told.results[1]["error"].endswith("engine away")
    refused = row(4, None, "1/score", {"message": "too long"})
    assert graded(RUN, GRADERS, due(ANSWER, refused), {"job_a": said("42")}).results[1]["error"].endswith("too long")


def test_an_item_without_an_answer_is_an_error_by_every_criterion():
    for answer, words, code in [
        (row(1, job("job_a", JobState.FAILED, error={"message": "boom", "code": "engine_error"})), "boom", "engine_error"),
        (row(1, job("job_a", JobState.CANCELLED)), "cancelled", "no_sample"),
        (row(1, None, error={"message": "too long", "code": "context_length_exceeded"}), "too long", "context_length_exceeded"),
        (None, "never became a job", "no_sample"),
        (ANSWER, "completed", "no_sample"),
    ]:  # fmt: skip
        told = graded(RUN, GRADERS, due(answer), {})
        assert (told.outcome, told.score) == (Outcome.ERROR, None)
        assert all(words in each["error"] for each in told.results)
        assert told.sample["error"]["code"] == code
        assert told.sample["output"] == []


def test_an_answer_that_came_along_is_graded_as_it_is():
    told = graded(GIVEN, GRADERS[:1], Due(item({"output_text": "42", "model": "theirs"}), None), {})
    assert (told.outcome, told.latency_ms, told.job_id, told.sample["model"]) == (Outcome.PASS, None, None, "theirs")
    assert told.sample["output"] == [{"role": "assistant", "content": "42"}]
    missing = graded(GIVEN, GRADERS[:1], Due(item(), None), {})
    assert (missing.outcome, missing.sample["output"]) == (Outcome.FAIL, [])


def test_a_grader_that_breaks_has_not_judged():
    told = broken(due(ANSWER), GRADERS, "it broke")
    assert (told.outcome, [each["error"] for each in told.results]) == (Outcome.ERROR, ["it broke", "it broke"])


def test_the_judges_of_a_criterion_are_found_in_its_members_too():
    assert list(judges_of(RIGHT, "c")) == []
    assert list(judges_of(JUDGE, "c")) == [("c", JUDGE)]
    assert list(judges_of({"type": "multi", "graders": {"a": JUDGE, "b": RIGHT}}, "c")) == [("c.graders.a", JUDGE)]
    several = [("c.graders[0]", JUDGE), ("c.graders[1]", JUDGE)]
    assert list(judges_of({"type": "multi", "graders": [JUDGE, JUDGE]}, "c")) == several
    assert list(judges_of({"type": "multi", "graders": JUDGE}, "c")) == [("c.graders", JUDGE)]
    assert list(judges_of({"type": "multi", "graders": ["odd"]}, "c")) == []


def test_a_tally_begins_with_noughts():
    assert blank_tallies([RIGHT]) == [{"name": "right", "passed": 0, "failed": 0, "errored": 0, "score": 0.0}]
