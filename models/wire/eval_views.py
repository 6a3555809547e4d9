"""How do an eval, a run and an output item look?  OpenAI's field names; AIGateway's beside them where an eval came as its shorthand.

What is ours stands under names that OpenAI does not use: `score`, `latency_ms` and `cost` of a run and of an item.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from models.eval_items import name_of
from models.evals import ModelUsage, Run, best_of
from models.limits import MICROS_PER_USD
from models.tables.batches import BatchState
from models.tables.evals import Eval, EvalItem, Metric

_STATUS = {
    BatchState.COMPLETED: "completed",
    BatchState.CANCELLED: "canceled",
    BatchState.FAILED: "failed",
    BatchState.EXPIRED: "failed",
}
_SAMPLE_SCHEMA = {
    "type": "object",
    "properties": {
        "model": {"type": "string"},
        "output_text": {"type": "string"},
        "output_json": {},
        "output_tools": {"type": "array"},
        "choices": {"type": "array"},
    },
    "required": ["model", "choices"],
}
LOGGED_SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "model": {"type": "string"},
        "input": {"type": "array"},
        "output": {"type": "string"},
        "metadata": {"type": "object"},
        "created_at": {"type": "integer"},
    },
    "required": ["input", "output"],
}
"""The items that stored completions become."""


def eval_view(row: Eval) -> dict[str, Any]:
    return {
        "id": row.id,
        "object": "eval",
        "name": row.name,
        "data_source_config": _config_view(row.source),
        "testing_criteria": row.criteria,
        "metadata": row.meta,
        "created_at": row.created_ms // 1000,
        "updated_at": row.updated_ms // 1000,
    }


def shorthand_view(row: Eval, runs: Sequence[Run]) -> dict[str, Any]:
    """AIGateway's, with OpenAI's fields beside it."""
    metric = row.metric or Metric.QUALITY
    is_open = any(run.batch.ended_ms is None for run in runs)
    best = None if is_open else best_of(runs, metric)
    return eval_view(row) | {
        "status": "running" if is_open else "completed" if best else "failed",
        "metric": metric,
        "candidate_models": [run.row.model for run in runs],
        "winner_model": best.row.model if best else None,
        "summary": _summary(runs, best, metric, is_open=is_open),
        "results": [_candidate(run) for run in runs],
    }


def run_view(
    run: Run, usage: Sequence[ModelUsage], url: str, content: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """`url` is the API's own; `content` what an inline data source held, where it is shown."""
    row = run.row
    error = next(iter(run.batch.errors or ()), None)
    return {
        "id": row.id,
        "object": "eval.run",
        "eval_id": row.eval_id,
        "name": row.name,
        "model": row.model,
        "status": status_of(run),
        "created_at": row.created_ms // 1000,
        "data_source": _source_view(row.source, content),
        "metadata": run.batch.meta,
        "error": error and {"code": error["code"], "message": error["message"]},
        "result_counts": _counts(run),
        "per_model_usage": [_usage(each) for each in usage],
        "per_testing_criteria_results": [_criterion(each) for each in row.criteria],
        "report_url": f"{url}/v1/evals/{row.eval_id}/runs/{row.id}/report",
        "score": _score(run),
        "latency_ms": _mean(row.latency_ms, row.sampled),
        "cost": run.batch.cost_micros / MICROS_PER_USD,
    }


def item_view(run: Run, item: EvalItem) -> dict[str, Any]:
    return {
        "id": name_of(item),
        "object": "eval.run.output_item",
        "eval_id": run.row.eval_id,
        "run_id": run.row.id,
        "created_at": (item.graded_ms or run.row.created_ms) // 1000,
        "status": item.outcome,
        "datasource_item_id": item.number,
        "datasource_item": item.item,
        "results": item.results,
        "sample": item.sample,
        "score": item.score,
        "latency_ms": item.latency_ms,
        "cost": None if item.cost_micros is None else item.cost_micros / MICROS_PER_USD,
        "job_id": item.job_id,
    }


def status_of(run: Run) -> str:
    if run.batch.state in _STATUS:
        return _STATUS[run.batch.state]
    moved = run.batch.completed + run.batch.failed + run.row.passed + run.row.failed + run.row.errored
    return "in_progress" if moved else "queued"


def _config_view(source: Mapping[str, Any]) -> dict[str, Any]:
    if source["type"] != "custom":
        schema = _schema(LOGGED_SCHEMA, sampled=True)
        return {"type": source["type"], "schema": schema, "metadata": source.get("metadata") or {}}
    schema = _schema(source["item_schema"], sampled=bool(source.get("include_sample_schema")))
    return {"type": "custom", "schema": schema}


def _schema(item: Mapping[str, Any], *, sampled: bool) -> dict[str, Any]:
    properties = {"item": item} | ({"sample": _SAMPLE_SCHEMA} if sampled else {})
    return {"type": "object", "properties": properties, "required": list(properties)}


def _source_view(source: Mapping[str, Any], content: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    inner = source["source"]
    if inner["type"] == "file_content":
        inner = inner | {"content": list(content)}
    return {**source, "source": inner}


def _counts(run: Run) -> dict[str, int]:
    row = run.row
    return {"total": row.total, "passed": row.passed, "failed": row.failed, "errored": row.errored}


def _usage(used: ModelUsage) -> dict[str, Any]:
    return {
        "model_name": used.model,
        "invocation_count": used.invocations,
        "prompt_tokens": used.prompt_tokens,
        "cached_tokens": used.cached_tokens,
        "completion_tokens": used.completion_tokens,
        "total_tokens": used.prompt_tokens + used.completion_tokens,
    }


def _criterion(tally: Mapping[str, Any]) -> dict[str, Any]:
    graded = tally["passed"] + tally["failed"]
    return {
        "testing_criteria": tally["name"],
        "passed": tally["passed"],
        "failed": tally["failed"],
        "errored": tally["errored"],
        "score": _mean(tally["score"], graded),
    }


def _candidate(run: Run) -> dict[str, Any]:
    row = run.row
    return {
        "model": row.model,
        "run_id": row.id,
        "status": status_of(run),
        **_counts(run),
        "score": _score(run),
        "latency_ms": _mean(row.latency_ms, row.sampled),
        "cost_cents": row.cost_micros * 100 / MICROS_PER_USD,
    }


def _score(run: Run) -> float | None:
    """Share of the graded items that passed."""
    row = run.row
    return _mean(row.passed, row.passed + row.failed + row.errored)


def _mean(total: float, count: int) -> float | None:
    return total / count if count else None


def _summary(runs: Sequence[Run], best: Run | None, metric: Metric, *, is_open: bool) -> str:
    if is_open:
        done = sum(run.row.passed + run.row.failed + run.row.errored for run in runs)
        return f"{done} of {sum(run.row.total for run in runs)} answers are graded"
    if best is None:
        return "no candidate has answered"
    return "; ".join([f"{best.row.model} wins on {metric}", *(_in_words(run) for run in runs)])


def _in_words(run: Run) -> str:
    row = run.row
    if not row.sampled:
        return f"{row.model}: no answer"
    usd = row.cost_micros / row.sampled / MICROS_PER_USD
    return f"{row.model}: {row.passed} of {row.total} passed, {row.latency_ms / row.sampled:.0f} ms and USD {usd:.6f} an answer"
