"""What is AIGateway's shorthand in the words of an eval?  Criteria, a template and a run for each candidate.

With `expected` an answer passes that contains it, whatever the case.  Without, what counts as quality is a judge's score: the model
that judges is the one that callers get who name none.  Cost and speed are compared among models that have answered, so there a rest of
no quality asks nothing more of an answer than to be one.
"""

from typing import Any

from models.tables.evals import Metric
from models.wire.evals import EvalRequest, RunRequest, ShorthandRequest

_EXPECTED = {
    "type": "string_check",
    "name": "expected",
    "operation": "ilike",
    "input": "{{sample.output_text}}",
    "reference": "{{item.expected}}",
}
_ANSWERED = {
    "type": "string_check",
    "name": "answered",
    "operation": "ne",
    "input": "{{sample.output_text}}",
    "reference": "",
}
_JUDGE = (
    "You grade an assistant's answer. Give a score from 0 (useless or wrong) to 1 (correct, complete and to the point). "
    'Answer with JSON: {"score": <number>}.'
)


def as_eval(wanted: ShorthandRequest, judge: str) -> EvalRequest:
    """`judge` is a model's name."""
    return EvalRequest.model_validate(
        {
            "name": wanted.name,
            "data_source_config": {"type": "custom", "item_schema": {"type": "object"}, "include_sample_schema": True},
            "testing_criteria": [_criterion(wanted, judge)],
        }
    )


def as_runs(wanted: ShorthandRequest) -> list[RunRequest]:
    rows = [{"item": {"input": _messages(row.input), "expected": row.expected}} for row in wanted.dataset]
    if wanted.dataset[0].expected is None:
        rows = [{"item": {"input": row["item"]["input"]}} for row in rows]
    asked = {"type": "item_reference", "item_reference": "item.input"}
    content = {"type": "file_content", "content": rows}
    return [
        RunRequest.model_validate(
            {
                "name": model,
                "data_source": {"type": "completions", "model": model, "source": content, "input_messages": asked},
                "webhook_url": wanted.webhook_url,
            }
        )
        for model in wanted.candidate_models
    ]


def _messages(given: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": given}] if isinstance(given, str) else given


def _criterion(wanted: ShorthandRequest, judge: str) -> dict[str, Any]:
    if wanted.dataset[0].expected is not None:
        return _EXPECTED
    if wanted.metric is not Metric.QUALITY:
        return _ANSWERED
    messages = [
        {"role": "system", "content": _JUDGE},
        {"role": "user", "content": "The question:\n{{item.input}}\n\nThe answer:\n{{sample.output_text}}"},
    ]
    return {"type": "score_model", "name": "quality", "model": judge, "input": messages, "range": [0, 1]}
