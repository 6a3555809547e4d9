"""What is there still to ask about an item, and what is it worth?  From an item, its answer and its judges' replies to grades.

Pure: the caller brings what was said (`completions`, by job) and writes down what comes out.  An item without an answer, or that a
grader could not grade, is an error, and never passes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from models import datasets
from models.errors import InvalidRequest
from models.eval_items import Answered, Due, Graded
from models.grading import Grade, Grader
from models.lifecycle import JobState
from models.tables.evals import EvalRun, Outcome
from models.tables.jobs import Job
from models.wire.criteria import members

Completions = Mapping[str, Mapping[str, Any]]
JUDGE_TOKENS = 512
"""Where a judge's own limit is not said: a label or a number is shorter, and a poor judge may say digits without end."""
_SAMPLED_BY = ("temperature", "top_p", "seed", "max_completion_tokens")
_NO_TOKENS = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "cached_tokens": 0}


@dataclass(frozen=True, slots=True)
class _Sample:
    seen: dict[str, Any]
    """By graders."""
    shown: dict[str, Any]
    error: str | None
    job: Job | None


def questions_about(
    run: EvalRun, graders: Sequence[Grader], due: Due, completions: Completions
) -> dict[str, dict[str, Any]]:
    """What judges have to be asked before the item can be graded, by criterion and key; nothing without an answer."""
    sample = _sample(run, due, completions)
    if sample.error is not None:
        return {}
    namespace = {"item": due.item.item, "sample": sample.seen}
    asked = ((place, question) for place, grader in enumerate(graders) for question in grader.asks(namespace))
    limit = {"max_completion_tokens": JUDGE_TOKENS}
    return {f"{place}/{question.key}": limit | question.body for place, question in asked}


def graded(run: EvalRun, graders: Sequence[Grader], due: Due, completions: Completions) -> Graded:
    sample = _sample(run, due, completions)
    if sample.error is not None:
        return _graded(due, sample, graders, [each.failed(sample.error) for each in graders])
    namespace, replies = {"item": due.item.item, "sample": sample.seen}, _replies(due, completions)
    silent = {each.row.detail["key"]: why for each in due.judged if each.row.detail and (why := _silence(each))}
    grades = [
        _explained(grader.grade(namespace, _of(replies, place)), _of(silent, place))
        for place, grader in enumerate(graders)
    ]
    return _graded(due, sample, graders, grades)


def broken(due: Due, graders: Sequence[Grader], why: str) -> Graded:
    """Where grading itself went wrong."""
    shown = _shown([], [], "", None, _NO_TOKENS, {})
    return _graded(due, _Sample({}, shown, why, None), graders, [each.failed(why) for each in graders])


def blank_tallies(criteria: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of a run that has begun."""
    return [{"name": each["name"], "passed": 0, "failed": 0, "errored": 0, "score": 0.0} for each in criteria]


def judges_of(spec: Mapping[str, Any], place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The judges among a criterion and its members, by their places."""
    if isinstance(spec.get("model"), str):
        yield place, spec
    for below, each in members(spec):
        yield from judges_of(each, f"{place}.{below}")


def _graded(due: Due, sample: _Sample, graders: Sequence[Grader], grades: Sequence[Grade]) -> Graded:
    if any(grade.error for grade in grades):
        outcome = Outcome.ERROR
    else:
        outcome = Outcome.PASS if all(grade.passed for grade in grades) else Outcome.FAIL
    job = sample.job
    return Graded(
        number=due.item.number,
        outcome=outcome,
        results=[_result(grader, grade) for grader, grade in zip(graders, grades, strict=True)],
        sample=sample.shown,
        job_id=None if job is None else job.id,
        latency_ms=None if job is None else _latency(job),
        cost_micros=None if job is None else job.cost_micros,
    )


def _latency(job: Job) -> int | None:
    """From the claim to the end: waiting in the queue says nothing of the model."""
    if job.state is not JobState.COMPLETED or job.ended_ms is None or job.started_ms is None:
        return None
    return max(0, job.ended_ms - job.started_ms)


def _result(grader: Grader, grade: Grade) -> dict[str, Any]:
    told = {"name": grade.name, "type": grader.kind, "score": grade.score, "passed": grade.passed}
    return told | {"sample": grade.detail or None, "error": grade.error}


def _sample(run: EvalRun, due: Due, completions: Completions) -> _Sample:
    return _given(due) if run.model is None else _sampled(run, due, completions)


def _given(due: Due) -> _Sample:
    seen = datasets.sample_of(due.item.given)
    text = seen.get("output_text")
    output = [] if text is None else [{"role": "assistant", "content": str(text)}]
    shown = _shown([], output, str(seen.get("model") or ""), None, _NO_TOKENS, {})
    return _Sample(seen, shown, None, None)


def _sampled(run: EvalRun, due: Due, completions: Completions) -> _Sample:
    row, job = (due.answer.row, due.answer.job) if due.answer else (None, None)
    question = _question(run, due)
    found = None if job is None else completions.get(job.id)
    parameters = (job.parameters if job else None) or {}
    if job is None or job.state is not JobState.COMPLETED or found is None:
        told = (job.error if job else row.error if row else None) or {}
        words = told.get("message") or f"the sample was not made: {job.state if job else 'it never became a job'}"
        shown = _shown(question, [], run.model or "", None, _NO_TOKENS, parameters)
        shown["error"] = {"code": told.get("code") or "no_sample", "message": words}
        return _Sample({}, shown, f"there is no answer: {words}", job)
    message, reason = found["choices"][0]["message"], found["choices"][0]["finish_reason"]
    usage = {name: getattr(job, name) for name in ("prompt_tokens", "completion_tokens", "cached_tokens")}
    usage["total_tokens"] = job.prompt_tokens + job.completion_tokens
    seen = datasets.answered(message) | {"model": job.model, "choices": found["choices"], "finish_reason": reason}
    return _Sample(seen, _shown(question, [message], job.model, reason, usage, parameters), None, job)


def _question(run: EvalRun, due: Due) -> list[dict[str, Any]]:
    try:
        return datasets.messages_of(run.source, due.item.item)
    except InvalidRequest:  # it was asked once, so its error is of what has changed since, and is told by the answer
        return []


def _shown(
    asked: Sequence[Mapping[str, Any]],
    output: Sequence[Mapping[str, Any]],
    model: str,
    reason: str | None,
    usage: Mapping[str, int],
    parameters: Mapping[str, Any],
) -> dict[str, Any]:
    """As OpenAI shows a sample."""
    limit = parameters.get("max_completion_tokens", parameters.get("max_tokens"))
    return {
        "input": [_message(each) for each in asked],
        "output": [_message(each) for each in output],
        "model": model,
        "finish_reason": reason,
        "usage": dict(usage),
        "error": None,
        **{name: parameters.get(name) for name in _SAMPLED_BY},
        "max_completion_tokens": limit,
    }


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(str(part.get("text") or f"[{part.get('type')}]") for part in content)
    calls = {"tool_calls": message["tool_calls"]} if message.get("tool_calls") else {}
    return {"role": message["role"], "content": content, **calls}


def _replies(due: Due, completions: Completions) -> dict[str, str | None]:
    return {each.row.detail["key"]: _text(each, completions) for each in due.judged if each.row.detail}


def _text(each: Answered, completions: Completions) -> str | None:
    if each.job is None or each.job.state is not JobState.COMPLETED or each.job.id not in completions:
        return None
    content: str | None = completions[each.job.id]["choices"][0]["message"].get("content")
    return content


def _silence(each: Answered) -> str | None:
    """Why a judge said nothing."""
    if each.job is not None and each.job.state is JobState.COMPLETED:
        return None
    error = (each.job.error if each.job else each.row.error) or {}
    return str(error.get("message") or (each.job.state if each.job else "it was not asked"))


def _explained(grade: Grade, silent: Mapping[str, str | None]) -> Grade:
    why = next(iter(silent.values()), None)
    return replace(grade, error=f"{grade.error}: {why}") if grade.error and why else grade


def _of(replies: Mapping[str, str | None], place: int) -> dict[str, str | None]:
    return {key.partition("/")[2]: reply for key, reply in replies.items() if key.partition("/")[0] == str(place)}
