"""What does a request for a replay say, and how does a replay look?  AIGateway's field names where it has one."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from models.lifecycle import FINAL, JobState
from models.limits import MICROS_PER_CENT
from models.replay import Comparison, Verdict, compare
from models.tables.jobs import Job
from models.tables.replays import Replay


class ReplayRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    source_request_id: str | None = None
    """A job's id, or that of the completion it made."""
    source_conversation_id: str | None = None
    target_model: str | None = None
    overrides: dict[str, Any] = {}
    """Parameters to change, as in a chat request; null takes one away."""

    @model_validator(mode="after")
    def _one_source(self) -> "ReplayRequest":
        if (self.source_request_id is None) == (self.source_conversation_id is None):
            raise ValueError("source_request_id: give this or source_conversation_id, and not both")
        return self


@dataclass(frozen=True, slots=True)
class Pair:
    """A recorded turn and its replay, with the first choice each has made."""

    source: Job
    job: Job
    recorded: dict[str, Any] | None
    replayed: dict[str, Any] | None

    def compared(self) -> Comparison:
        if self.job.state not in FINAL:
            return Comparison(Verdict.PENDING)
        return compare(self.recorded, self.replayed)


def replay_view(replay: Replay, pairs: Sequence[Pair]) -> dict[str, Any]:
    turns = [_turn(pair) for pair in pairs]
    verdicts: Counter[Verdict] = Counter(turn["verdict"] for turn in turns)
    return {
        "id": replay.id,
        "object": "replay",
        "status": _status([pair.job.state for pair in pairs]),
        "created_at": replay.created_ms // 1000,
        "source_request_id": replay.source_job_id,
        "source_conversation_id": replay.source_conversation_id,
        "source_model": pairs[0].source.model if pairs else None,
        "target_model": pairs[0].job.model if pairs else replay.target_model,
        "overrides": replay.overrides,
        "verdict": next(iter(verdicts)) if len(verdicts) == 1 else _mixed(verdicts),
        "verdicts": {verdict.value: number for verdict, number in verdicts.items()},
        **_single(turns),
        "turns": turns,
    }


def _turn(pair: Pair) -> dict[str, Any]:
    found = pair.compared()
    return {
        "source_job_id": pair.source.id,
        "job_id": pair.job.id,
        "state": pair.job.state,
        "verdict": found.verdict,
        "first_difference": None
        if found.position is None
        else {"position": found.position, "recorded": found.recorded, "replayed": found.replayed},
        "source_output": _text(pair.recorded),
        "target_output": _text(pair.replayed),
        "latency_source_ms": _latency(pair.source),
        "latency_target_ms": _latency(pair.job),
        "cost_source_cents": _cost(pair.source),
        "cost_target_cents": _cost(pair.job),
    }


def _single(turns: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """AIGateway's replay is of one turn, and shows its outputs at the top."""
    return {name: turns[0][name] if len(turns) == 1 else None for name in _SINGLE}


_SINGLE = (
    *("source_output", "target_output", "first_difference"),
    *("latency_source_ms", "latency_target_ms", "cost_source_cents", "cost_target_cents"),
)


def _mixed(verdicts: Counter[Verdict]) -> Verdict:
    worst = (Verdict.PENDING, Verdict.DIVERGED, Verdict.NOT_COMPARABLE)
    return next((verdict for verdict in worst if verdicts[verdict]), Verdict.PENDING)


def _status(states: Sequence[JobState]) -> str:
    if all(state in FINAL for state in states):
        return "completed" if any(state is JobState.COMPLETED for state in states) else "failed"
    return "queued" if all(state is JobState.QUEUED for state in states) else "in_progress"


def _text(message: dict[str, Any] | None) -> str | None:
    return None if message is None else message.get("content")


def _cost(job: Job) -> float | None:
    return None if job.cost_micros is None else job.cost_micros / MICROS_PER_CENT


def _latency(job: Job) -> int | None:
    """From the claim to the end: waiting in the queue says nothing of the model."""
    return None if job.ended_ms is None or job.started_ms is None else job.ended_ms - job.started_ms
