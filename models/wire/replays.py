"""What does a request for a replay say, and how does a replay look?  AIGateway's field names where it has one."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.comparison import Mode, diff, first_difference
from models.limits import MICROS_PER_CENT
from models.tables.batches import Batch, BatchRow, BatchState
from models.verdicts import Verdict
from models.wire.chat import METADATA_MOST, Metadata

TURNS_MOST = 10_000
"""Of one replay, repeats counted."""
REPEATS_MOST = 100
SHOWN = 20
"""Turns that a replay shows by itself; `/turns` has them all."""


_FIXED = {
    "service_tier": "a replay is asked at the tier flex, when nobody else waits",
    "messages": "they are what is replayed; system takes the place of the system prompt",
    "store": "each answer is kept, to be compared",
    **dict.fromkeys(
        ("conversation", "conversation_id"), "each answer is a branch of the conversation that was recorded"
    ),
    **dict.fromkeys(("background", "stream"), "nobody holds the line for an answer"),
}
"""What no override changes, and why."""


class History(StrEnum):
    RECORDED = "recorded"
    """Each turn is asked with the prompt it had, whatever is answered now."""
    LIVE = "live"
    """Each turn is asked behind the answers that are given now."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Filter(_Strict):
    """Which recorded turns; the newest ones that fit."""

    model: Annotated[str, Field(max_length=200)] | None = None
    """As it was written, or the id of the card it meant."""
    tag: Annotated[str, Field(max_length=100)] | None = None
    metadata: Annotated[dict[str, str], Field(max_length=METADATA_MOST)] = {}
    created_after: Annotated[int, Field(ge=0, lt=2**40)] | None = None
    created_before: Annotated[int, Field(ge=0, lt=2**40)] | None = None
    """Unix time in seconds; from `created_after` on, and before `created_before`."""
    limit: Annotated[int, Field(ge=1, le=TURNS_MOST)] = 1000


class ReplayRequest(_Strict):
    source_request_id: str | None = None
    """A job's id, or that of the completion it made."""
    source_conversation_id: str | None = None
    filter: Filter | None = None
    target_model: Annotated[str, Field(max_length=200)] | None = None
    shadow: bool = False
    """AIGateway's word; a replay here never takes the place of an answer."""
    overrides: dict[str, Any] = {}
    """Parameters to change, as in a chat request, `model` and `tools` among them; null takes one away.  `system` is the system prompt."""
    history: Annotated[History, Field(strict=False)] = History.RECORDED
    mode: Annotated[Mode, Field(strict=False)] = Mode.EXACT
    """How closely answers are compared."""
    repeats: Annotated[int, Field(ge=1, le=REPEATS_MOST)] = 1
    webhook_url: Annotated[str, Field(max_length=2048)] | None = None
    metadata: Metadata = {}

    @model_validator(mode="after")
    def _one_source(self) -> "ReplayRequest":
        sources = (self.source_request_id, self.source_conversation_id, self.filter)
        if sum(source is not None for source in sources) != 1:
            raise ValueError("source_request_id: give this, source_conversation_id or filter, and one only")
        if self.history is History.LIVE and self.source_conversation_id is None:
            raise ValueError("history: only a conversation can be live; give source_conversation_id")
        return self

    @model_validator(mode="after")
    def _one_model(self) -> "ReplayRequest":
        named = self.overrides.get("model")
        if named is not None and self.target_model not in (None, named):
            raise ValueError("target_model: overrides.model says another one")
        for name in (name for name in self.overrides if name in _FIXED):
            raise ValueError(f"overrides: {name}: {_FIXED[name]}")
        system = self.overrides.get("system")
        if not (system is None or isinstance(system, str)):
            raise ValueError("overrides: system is a text, or null, which takes the system prompt away")
        return self

    @property
    def model(self) -> str | None:
        """What is to answer, where that is not what did."""
        return self.target_model or self.overrides.get("model")


_STATUS = {
    BatchState.VALIDATING: "queued",
    BatchState.IN_PROGRESS: "in_progress",
    BatchState.FINALIZING: "in_progress",
    BatchState.COMPLETED: "completed",
    BatchState.EXPIRED: "completed",
    BatchState.FAILED: "failed",
    BatchState.CANCELLING: "cancelling",
    BatchState.CANCELLED: "cancelled",
}


def replay_view(
    batch: Batch, output: Mapping[str, Any] | None, turns: Sequence[Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """`turns` are the first ones; of a replay of one turn, that one's outputs stand at the top, as AIGateway has them.

    `output` is a summary's; None while there is none.
    """
    spec, planned = batch.spec, planned_of(batch)
    return {
        "id": batch.id,
        "object": "replay",
        "status": status_of(batch),
        "created_at": batch.created_ms // 1000,
        "ended_at": None if batch.ended_ms is None else batch.ended_ms // 1000,
        **{name: spec[name] for name in _TOLD},
        "target_model": spec["target_model"] or spec["source_model"],
        "metadata": batch.meta,
        "webhook_url": batch.webhook_url,
        "request_counts": {"total": planned, "completed": batch.completed, "failed": batch.failed},
        **(output or {"verdict": Verdict.PENDING, "verdicts": {Verdict.PENDING.value: planned}, "summary": None}),
        **_single(turns if planned == 1 else None),
        "score_delta": None,
        "turns": None if turns is None else list(turns),
        "turns_url": f"/v1/replays/{batch.id}/turns",
    }


_TOLD = (
    *("source_request_id", "source_conversation_id", "filter", "source_model", "target_model", "shadow", "overrides"),
    *("history", "mode", "repeats"),
)
_SINGLE = (
    *("source_output", "target_output", "first_difference"),
    *("latency_source_ms", "latency_target_ms", "cost_source_cents", "cost_target_cents"),
)


def _single(turns: Sequence[Mapping[str, Any]] | None) -> dict[str, Any]:
    return {name: turns[0][name] if turns else None for name in _SINGLE}


def planned_of(batch: Batch) -> int:
    """Rows that there will be: of a live conversation they come one by one."""
    return len(batch.spec["turns"]) * int(batch.spec["repeats"])


def status_of(batch: Batch) -> str:
    if batch.state is BatchState.COMPLETED and not batch.completed:
        return "failed"
    return _STATUS[batch.state]


def turn_view(
    row: BatchRow,
    detail: Mapping[str, Any],
    recorded: Sequence[Mapping[str, Any]],
    replayed: Sequence[Mapping[str, Any]],
    mode: str,
) -> dict[str, Any]:
    """`recorded` and `replayed` are what both answered, choice by choice, as far as it is still stored."""
    judged = detail.get("judgement")
    place = judged and judged["difference"]
    old, new = detail.get("source") or {}, detail.get("target") or {}
    return {
        "number": row.number,
        "repeat": detail["repeat"],
        "source_job_id": row.source_job_id,
        "job_id": row.job_id,
        "state": row.state,
        "verdict": judged["verdict"] if judged else Verdict.PENDING,
        "comparable": judged and judged["comparable"],
        "reasons": judged["reasons"] if judged else [],
        "first_difference": place and _difference(place, detail.get("token"), recorded, replayed, Mode(mode)),
        "similarity": judged and judged["similarity"],
        "same_tool_calls": judged and judged["same_calls"],
        "diff": place and _diff(place["choice"], recorded, replayed),
        "source_output": _text(recorded),
        "target_output": _text(replayed),
        "source_tool_calls": _calls(recorded),
        "target_tool_calls": _calls(replayed),
        **{f"{name}_{side}": told.get(name) for name in _KEPT for side, told in _sides(old, new)},
        **{f"{name}_{side}_ms": told.get(f"{name}_ms") for name in _TIMES for side, told in _sides(old, new)},
        **{f"cost_{side}_cents": _cents(told.get("cost_micros")) for side, told in _sides(old, new)},
        "length_source": judged and judged["lengths"][0],
        "length_target": judged and judged["lengths"][1],
    }


_KEPT, _TIMES = ("environment", "completion_tokens", "cached_tokens"), ("latency", "ttft")


def _sides(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    return ("source", old), ("target", new)


def _difference(
    place: Mapping[str, Any],
    token: Mapping[str, Any] | None,
    recorded: Sequence[Mapping[str, Any]],
    replayed: Sequence[Mapping[str, Any]],
    mode: Mode,
) -> dict[str, Any]:
    """Where it was found; with both texts around it, as long as there are both."""
    found = first_difference(recorded, replayed, mode) if recorded and replayed else None
    return {
        "token": token and token["token"],
        "token_told_by": token and token["told_by"],
        **place,
        "recorded": found and found.recorded,
        "replayed": found and found.replayed,
    }


def _diff(
    choice: int, recorded: Sequence[Mapping[str, Any]], replayed: Sequence[Mapping[str, Any]]
) -> list[dict[str, str]] | None:
    if choice >= min(len(recorded), len(replayed)):
        return None
    return diff(recorded[choice], replayed[choice])


def _text(choices: Sequence[Mapping[str, Any]]) -> str | None:
    return choices[0].get("content") if choices else None


def _calls(choices: Sequence[Mapping[str, Any]]) -> Any:
    return choices[0].get("tool_calls") if choices else None


def _cents(micros: int | None) -> float | None:
    return None if micros is None else micros / MICROS_PER_CENT
