"""How do replays and their turns look?"""

from typing import Any, Literal

from models.comparison import Mode
from models.tables.batches import RowState
from models.verdicts import Verdict, Why
from models.wire.chat import Metadata
from models.wire.replays import History
from models.wire.shapes import JobId, Seconds, Shape
from models.wire.shapes.batches import RowCounts


class Difference(Shape):
    token: int | None
    """Tokens that are the same before it; null where it is not known."""
    token_told_by: Literal["logprobs", "stream", "chunks"] | None
    choice: int
    position: int
    """Characters that are the same before it, in what the mode looks at."""
    recorded: str | None
    """What stands around it; null where that is deleted."""
    replayed: str | None


class ReplayReason(Shape):
    code: Why
    message: str
    details: list[dict[str, Any]]


class DiffPart(Shape):
    op: Literal["same", "removed", "added"]
    text: str


class ReplayedTurn(Shape):
    number: int
    repeat: int
    source_job_id: JobId
    job_id: JobId | None
    state: RowState
    verdict: Verdict
    comparable: bool | None
    """Whether equality could be expected; null while the verdict is pending."""
    reasons: list[ReplayReason]
    first_difference: Difference | None
    similarity: float | None
    same_tool_calls: bool | None
    diff: list[DiffPart] | None
    source_output: str | None
    target_output: str | None
    source_tool_calls: list[dict[str, Any]] | None
    target_tool_calls: list[dict[str, Any]] | None
    environment_source: str | None
    environment_target: str | None
    completion_tokens_source: int | None
    completion_tokens_target: int | None
    cached_tokens_source: int | None
    cached_tokens_target: int | None
    latency_source_ms: int | None
    latency_target_ms: int | None
    ttft_source_ms: int | None
    ttft_target_ms: int | None
    cost_source_cents: float | None
    cost_target_cents: float | None
    length_source: int | None
    length_target: int | None


class ReplayedTurns(Shape):
    object: Literal["list"]
    data: list[ReplayedTurn]
    has_more: bool
    last_number: int | None
    """The next page's `after`."""


class Replay(Shape):
    id: str
    object: Literal["replay"]
    status: Literal["queued", "in_progress", "completed", "failed", "cancelling", "cancelled"]
    created_at: Seconds
    ended_at: Seconds | None
    source_request_id: JobId | None
    source_conversation_id: str | None
    filter: dict[str, Any] | None
    source_model: str | None
    target_model: str | None
    shadow: bool
    overrides: dict[str, Any]
    history: History
    mode: Mode
    repeats: int
    metadata: Metadata
    webhook_url: str | None
    request_counts: RowCounts
    verdict: Verdict
    verdicts: dict[str, int]
    summary: dict[str, Any] | None
    source_output: str | None
    target_output: str | None
    latency_source_ms: int | None
    latency_target_ms: int | None
    cost_source_cents: float | None
    cost_target_cents: float | None
    score_delta: float | None
    first_difference: Difference | None
    turns: list[ReplayedTurn] | None
    """The first ones; left out of lists, but for a replay of one."""
    turns_url: str
