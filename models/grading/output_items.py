"""What did a run say, as `/v1/evals` tells it?  From OpenAI's run and output items to the answers that a report is made of.

Items are told apart by their content and not by their place, so runs over the same rows in another order still make pairs; of two
rows that are alike the first is compared with the first.  A report's JSON holds the same answers and is read back here.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from models.grading.results import Answer, Run, Scored

_KEY_BYTES = 6

Row = Mapping[str, Any]


def run_of(view: Row, items: Iterable[Row]) -> Run:
    source = view.get("data_source") or {}
    seen: Counter[str] = Counter()
    return Run(
        name=view.get("name") or view["id"],
        model=view.get("model") or "",
        answers=[_answer(item, seen) for item in items],
        parameters=source.get("sampling_params") or {},
        id=f"{view['eval_id']}/{view['id']}",
        status=view["status"],
    )


def runs_in(report: Row) -> list[Run]:
    """Of a report's JSON."""
    return [
        Run(
            name=run["name"],
            model=run["model"],
            answers=[_reported(item, item["answers"][place]) for item in report["items"] if item["answers"][place]],
            parameters=run["parameters"],
            id=run["id"],
            status=run["status"],
        )
        for place, run in enumerate(report["runs"])
    ]


def _answer(item: Row, seen: Counter[str]) -> Answer:
    sample, content = item.get("sample") or {}, item["datasource_item"]
    usage, error = sample.get("usage") or {}, sample.get("error")
    return Answer(
        key=_key(content, seen),
        item=content,
        output=_said(sample.get("output") or ()),
        grades={each["name"]: _scored(each) for each in item["results"]},
        error=error and str(error.get("message") or error),
        latency_ms=item.get("latency_ms"),
        prompt_tokens=usage.get("prompt_tokens") or 0,
        completion_tokens=usage.get("completion_tokens") or 0,
        cost_usd=item.get("cost"),
    )


def _key(content: Row, seen: Counter[str]) -> str:
    written = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    name = hashlib.blake2b(written, digest_size=_KEY_BYTES).hexdigest()
    seen[name] += 1
    return name if seen[name] == 1 else f"{name}-{seen[name]}"


def _said(output: Sequence[Row]) -> str:
    """The answer's text, and its calls written out."""
    parts = []
    for message in output:
        calls = [call["function"] for call in message.get("tool_calls") or ()]
        parts += [message["content"]] if message.get("content") else []
        parts += [f"{call['name']}({call['arguments']})" for call in calls]
    return "\n".join(parts)


def _scored(result: Row) -> Scored:
    return Scored(
        score=float(result["score"]),
        passed=bool(result["passed"]),
        error=result.get("error"),
        detail=result.get("sample") or {},
    )


def _reported(item: Row, answer: Row) -> Answer:
    plain = ("output", "error", "latency_ms", "prompt_tokens", "completion_tokens", "cost_usd")
    grades = {
        name: Scored(grade["score"], grade["passed"], grade.get("error"), grade.get("detail") or {})
        for name, grade in answer["grades"].items()
    }
    return Answer(key=item["key"], item=item["item"], grades=grades, **{name: answer[name] for name in plain})
