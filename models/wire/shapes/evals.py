"""How do evals, their runs and output items look?"""

from typing import Annotated, Any, Literal

from pydantic import Field, RootModel

from models.tables.evals import Metric, Outcome
from models.wire.chat import Metadata
from models.wire.evals import EvalRequest, ShorthandRequest
from models.wire.shapes import JobId, Milliseconds, Seconds, Shape

EvalId = Annotated[str, Field(pattern="^eval_[0-9a-z]{26}$")]
RunId = Annotated[str, Field(pattern="^evalrun_[0-9a-z]{26}$")]
ItemId = Annotated[str, Field(pattern="^outputitem_[0-9a-z]{26}_[0-9]{6}$")]
RunStatus = Literal["queued", "in_progress", "completed", "canceled", "failed"]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class EvalBody(RootModel[EvalRequest | ShorthandRequest]):
    """OpenAI's eval, or AIGateway's shorthand."""


class DataSourceConfig(Shape):
    type: Literal["custom", "logs", "stored_completions"]
    schema_: dict[str, Any] = Field(alias="schema")
    metadata: Metadata = Field(default_factory=dict)


class Counts(Shape):
    total: Count
    passed: Count
    failed: Count
    errored: Count


class CandidateResult(Counts):
    model: str
    run_id: RunId
    status: RunStatus
    score: Share | None
    latency_ms: float | None
    cost_cents: float


class Eval(Shape):
    """The fields from `status` on are AIGateway's, of what came as its shorthand."""

    id: EvalId
    object: Literal["eval"]
    name: str
    data_source_config: DataSourceConfig
    testing_criteria: list[dict[str, Any]]
    metadata: Metadata
    created_at: Seconds
    updated_at: Seconds
    status: Literal["running", "completed", "failed"] = "completed"
    metric: Metric = Metric.QUALITY
    candidate_models: list[str] = Field(default_factory=list)
    winner_model: str | None = None
    summary: str = ""
    results: list[CandidateResult] = Field(default_factory=list)


class DeletedEval(Shape):
    object: Literal["eval.deleted"]
    deleted: Literal[True]
    eval_id: EvalId


class ModelUsage(Shape):
    model_name: str
    invocation_count: Count
    prompt_tokens: Count
    cached_tokens: Count
    completion_tokens: Count
    total_tokens: Count


class CriterionResult(Shape):
    testing_criteria: str
    passed: Count
    failed: Count
    errored: Count
    score: float | None
    """Mean of what could be graded."""


class EvalError(Shape):
    code: str
    message: str


class EvalRun(Shape):
    id: RunId
    object: Literal["eval.run"]
    eval_id: EvalId
    name: str
    model: str | None
    status: RunStatus
    created_at: Seconds
    data_source: dict[str, Any]
    """In lists without what an inline one holds."""
    metadata: Metadata
    error: EvalError | None
    result_counts: Counts
    per_model_usage: list[ModelUsage]
    per_testing_criteria_results: list[CriterionResult]
    report_url: str
    score: Share | None
    """Of what is graded, the share that passed."""
    latency_ms: float | None
    """Mean of the answers, from the claim to the end."""
    cost: float
    """US dollars, judges included."""


class DeletedRun(Shape):
    object: Literal["eval.run.deleted"]
    deleted: Literal[True]
    run_id: RunId


class GraderResult(Shape):
    name: str
    type: str
    score: float
    passed: bool
    sample: dict[str, Any] | None
    """What the grader has to say for itself."""
    error: str | None
    """Why there is no judgement."""


class SampleMessage(Shape):
    role: str
    content: str | None
    tool_calls: list[dict[str, Any]] = Field(default_factory=list)


class SampleUsage(Shape):
    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count
    cached_tokens: Count


class Sample(Shape):
    input: list[SampleMessage]
    output: list[SampleMessage]
    model: str
    finish_reason: str | None
    usage: SampleUsage
    error: EvalError | None
    temperature: float | None
    top_p: float | None
    seed: int | None
    max_completion_tokens: int | None


class OutputItem(Shape):
    id: ItemId
    object: Literal["eval.run.output_item"]
    eval_id: EvalId
    run_id: RunId
    created_at: Seconds
    status: Outcome
    datasource_item_id: Count
    datasource_item: dict[str, Any]
    results: list[GraderResult]
    sample: Sample
    score: float | None
    latency_ms: Milliseconds | None
    cost: float | None
    job_id: JobId | None


class EvalComparison(Shape):
    """See docs/evals.md for the figures."""

    object: Literal["eval.report"]
    title: str
    created_at: Seconds
    seed: int
    graders: list[str]
    runs: list[dict[str, Any]]
    comparisons: list[dict[str, Any]]
    slices: list[dict[str, Any]]
