"""How do runs of an eval look side by side?  From their graded items to the figures of `models.grading.results`.

Items are told by their content, whatever place they have in each run's data: of two alike the first is compared with the first.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import orjson

from models.evals import Run
from models.limits import MICROS_PER_USD
from models.tables.evals import EvalItem
from models.wire.eval_views import status_of

Graded = tuple[Run, Sequence[EvalItem]]
_KEY_BYTES = 12


def report(title: str, runs: Sequence[Graded], *, created_at: int, slices: Sequence[str] = ()) -> dict[str, Any]:
    """The first run is what the others are held against; `created_at` in Unix seconds."""
    from models.grading import results  # noqa: PLC0415 -- numpy, for whoever compares

    labels: dict[str, str] = {}
    names = Counter(run.row.name for run, _ in runs)
    told = [
        results.Run(
            name=run.row.name if names[run.row.name] == 1 else f"{run.row.name} ({run.row.id})",
            model=run.row.model or "",
            answers=_answers(items, labels),
            parameters=run.row.source.get("sampling_params") or {},
            id=run.row.id,
            status=status_of(run),
        )
        for run, items in runs
    ]
    return results.report_of(title, told, created_at=created_at, slices=slices)


def _answers(items: Sequence[EvalItem], labels: dict[str, str]) -> list[Any]:
    seen: Counter[str] = Counter()
    found = []
    for item in items:
        name = blake2b(orjson.dumps(item.item, option=orjson.OPT_SORT_KEYS), digest_size=_KEY_BYTES).hexdigest()
        seen[name] += 1
        key = f"{name}-{seen[name]}"
        found.append(_answer(item, labels.setdefault(key, str(len(labels)))))
    return found


def _answer(item: EvalItem, key: str) -> Any:
    from models.grading.results import Answer, Scored  # noqa: PLC0415

    sample = item.sample or {}
    output = next((each["content"] for each in sample.get("output", ())), None)
    error = sample.get("error") or {}
    usage: Mapping[str, int] = sample.get("usage") or {}
    return Answer(
        key=key,
        item=item.item,
        output=output or "",
        grades={
            each["name"]: Scored(each["score"], each["passed"], each["error"], each["sample"] or {})
            for each in item.results or ()
        },
        error=error.get("message"),
        latency_ms=item.latency_ms,
        prompt_tokens=usage.get("prompt_tokens", 0),
        completion_tokens=usage.get("completion_tokens", 0),
        cost_usd=None if item.cost_micros is None else item.cost_micros / MICROS_PER_USD,
    )
