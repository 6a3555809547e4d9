"""What did runs of an eval come to, side by side?  From graded answers to the figures of a report, as plain JSON.

The first run is what the others are compared with, item by item: two answers make a pair where their items have the same key and the
same content.  Answers without a judgement (`error`) are in no mean; how many there are stands beside it.  Relies on
`models.grading.statistics`; asks nobody, and takes times and money as they were measured.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from models.errors import InvalidRequest
from models.grading.statistics import SEED, estimate, grouped, paired, quantiles
from models.grading.template import steps, value, written

SLICE_CHARACTERS = 80
SLICE_VALUES_MOST = 50
"""A field with more values is a name and not a slice; the rest is put together."""
REST = "(others)"


@dataclass(frozen=True, slots=True)
class Scored:
    """One grader's word on an answer."""

    score: float
    passed: bool
    error: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """One item, answered and graded."""

    key: str
    item: Mapping[str, Any]
    output: str
    grades: Mapping[str, Scored]
    """By the graders' names."""
    error: str | None = None
    """Why there is no answer."""
    latency_ms: float | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None

    @property
    def failing(self) -> str:
        """`error`, `failed` or `passed`: as all its graders have it."""
        if self.error or any(grade.error for grade in self.grades.values()):
            return "error"
        return "passed" if all(grade.passed for grade in self.grades.values()) else "failed"


@dataclass(frozen=True, slots=True)
class Run:
    name: str
    model: str
    answers: Sequence[Answer]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    id: str | None = None
    status: str = "completed"


@dataclass(frozen=True, slots=True)
class Threshold:
    """What a grader's scores have to reach; of one run, or of every one."""

    grader: str
    run: str | None = None
    mean: float | None = None
    pass_rate: float | None = None
    not_worse_by: float | None = None
    """How much the mean may lie below the first run's, on the pairs of both."""


def report_of(
    title: str,
    runs: Sequence[Run],
    *,
    created_at: int,
    slices: Sequence[str] = (),
    thresholds: Sequence[Threshold] = (),
    errors_most: float = 0.0,
) -> dict[str, Any]:
    """`created_at` in Unix seconds; `slices` are paths (`item.level`); `errors_most` is a share of all answers.  Raises InvalidRequest."""
    check_slices(slices)
    graders = list(dict.fromkeys(name for run in runs for answer in run.answers for name in answer.grades))
    told = [_run(run, graders) for run in runs]
    comparisons = [_comparison(grader, runs[0], run) for run in runs[1:] for grader in graders]
    checked = [_checked(each, run, told, comparisons) for each in thresholds for run in _meant(each, told)]
    return {
        "object": "eval.report",
        "title": title,
        "created_at": created_at,
        "seed": SEED,
        "graders": graders,
        "runs": told,
        "comparisons": comparisons,
        "slices": [row for path in slices for row in _sliced(path, runs, graders)],
        "thresholds": checked,
        "verdict": _verdict(told, checked, errors_most),
        "items": _items(runs),
    }


def check_slices(paths: Iterable[str]) -> None:
    """Raises InvalidRequest for the first that does not lead into the item."""
    for path in paths:
        if not _is_in_item(path):
            shown = path[:SLICE_CHARACTERS]
            raise InvalidRequest(f"slice: {shown!r} is no path into the item, such as item.level", param="slice")


def _is_in_item(path: str) -> bool:
    try:
        return steps(path)[0] == "item"
    except InvalidRequest:
        return False


def _run(run: Run, graders: Sequence[str]) -> dict[str, Any]:
    outcomes = [answer.failing for answer in run.answers]
    grades = [grade for answer in run.answers for grade in answer.grades.values()]
    costs = [answer.cost_usd for answer in run.answers if answer.cost_usd is not None]
    return {
        "name": run.name,
        "id": run.id,
        "model": run.model,
        "parameters": dict(run.parameters),
        "status": run.status,
        "counts": {"total": len(outcomes), **{word: outcomes.count(word) for word in ("passed", "failed", "error")}},
        "scores": {grader: _score(run.answers, grader) for grader in graders},
        "latency_ms": quantiles([answer.latency_ms for answer in run.answers if answer.latency_ms is not None]),
        "prompt_tokens": sum(answer.prompt_tokens for answer in run.answers),
        "completion_tokens": sum(answer.completion_tokens for answer in run.answers),
        "cost_usd": round(sum(costs), 9) if costs else None,
        "parse_failures": sum(bool(grade.detail.get("parse_failure")) for grade in grades),
        "position_bias": sum(bool(grade.detail.get("position_bias")) for grade in grades),
    }


def _score(answers: Iterable[Answer], grader: str) -> dict[str, Any]:
    grades = [answer.grades[grader] for answer in answers if grader in answer.grades]
    judged = [grade for grade in grades if grade.error is None]
    found = estimate([grade.score for grade in judged])
    rate = sum(grade.passed for grade in judged) / len(judged) if judged else None
    return {**asdict(found), "few": found.few, "pass_rate": rate, "errors": len(grades) - len(judged)}


def _comparison(grader: str, first: Run, second: Run) -> dict[str, Any]:
    pairs, left_out = _pairs(grader, first.answers, second.answers)
    found = paired([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    named = {"grader": grader, "baseline": first.name, "run": second.name}
    return {**named, **asdict(found), "few": found.few, "left_out": left_out}


def _pairs(grader: str, first: Sequence[Answer], second: Sequence[Answer]) -> tuple[list[tuple[float, float]], int]:
    """Scores of the same items, and how many items have no such pair."""
    before = {answer.key: answer for answer in first}
    pairs = []
    for answer in second:
        other = before.get(answer.key)
        if other is None or other.item != answer.item:
            continue
        one, two = other.grades.get(grader), answer.grades.get(grader)
        if one and two and one.error is None and two.error is None:
            pairs.append((one.score, two.score))
    return pairs, len({answer.key for answer in (*first, *second)}) - len(pairs)


def _sliced(path: str, runs: Sequence[Run], graders: Sequence[str]) -> Iterable[dict[str, Any]]:
    values = _slice_values(path, runs)
    for run in runs:
        for word, answers in grouped([values[_in_slice(path, answer)] for answer in run.answers], run.answers).items():
            for grader in graders:
                yield {"slice": path, "value": word, "run": run.name, "grader": grader, **_score(answers, grader)}


def _slice_values(path: str, runs: Sequence[Run]) -> dict[str, str]:
    """The word that stands for each value: its own for the most frequent ones."""
    words = [_in_slice(path, answer) for run in runs for answer in run.answers]
    frequent = list(grouped(words, words))
    return {word: word if place < SLICE_VALUES_MOST else REST for place, word in enumerate(frequent)}


def _in_slice(path: str, answer: Answer) -> str:
    try:
        return written(value(path, {"item": answer.item}))[:SLICE_CHARACTERS] or "(empty)"
    except InvalidRequest:
        return "(none)"


def _meant(threshold: Threshold, told: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first run is not held against itself."""
    able = told[1:] if threshold.not_worse_by is not None else told
    return [run for run in able if threshold.run in {None, run["name"]}]


def _checked(
    each: Threshold, run: dict[str, Any], told: Sequence[dict[str, Any]], comparisons: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    score = run["scores"].get(each.grader) or {"mean": None, "pass_rate": None}
    if each.not_worse_by is not None:
        [one] = [c for c in comparisons if (c["grader"], c["run"]) == (each.grader, run["name"])] or [{}]
        what, wanted, found = f"difference from {told[0]['name']}", -each.not_worse_by, one.get("difference")
    elif each.pass_rate is not None:
        what, wanted, found = "pass rate", each.pass_rate, score["pass_rate"]
    else:
        what, wanted, found = "mean", each.mean or 0.0, score["mean"]
    met = found is not None and found >= wanted
    return {"grader": each.grader, "run": run["name"], "what": what, "wanted": wanted, "found": found, "met": met}


def _verdict(told: Sequence[dict[str, Any]], checked: Sequence[dict[str, Any]], errors_most: float) -> str:
    """`errors` before `missed`: figures that lack answers decide nothing."""
    for run in told:
        total = run["counts"]["total"]
        if run["status"] != "completed" or not total or run["counts"]["error"] > errors_most * total:
            return "errors"
    return "passed" if all(each["met"] for each in checked) else "missed"


def _items(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Every item with what each run made of it, in the order of the first run that has it."""
    found: dict[str, dict[str, Any]] = {}
    for place, run in enumerate(runs):
        for answer in run.answers:
            row = found.setdefault(
                answer.key, {"key": answer.key, "item": dict(answer.item), "answers": [None] * len(runs)}
            )
            row["answers"][place] = _answer(answer)
    return list(found.values())


def _answer(answer: Answer) -> dict[str, Any]:
    return {
        "outcome": answer.failing,
        "output": answer.output,
        "error": answer.error,
        "latency_ms": answer.latency_ms,
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "cost_usd": answer.cost_usd,
        "grades": {name: _grade(grade) for name, grade in answer.grades.items()},
    }


def _grade(grade: Scored) -> dict[str, Any]:
    told: dict[str, Any] = {"score": round(grade.score, 6), "passed": grade.passed}
    told |= {"error": grade.error} if grade.error else {}
    return told | ({"detail": dict(grade.detail)} if grade.detail else {})
