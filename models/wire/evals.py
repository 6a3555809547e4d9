"""What may be asked for at `/v1/evals`?  OpenAI's evals and runs, and AIGateway's shorthand, which is told by its body.

A field that is not here is refused by name, never ignored.  Whether a grader makes sense is `models.grading`'s to say, whether a
sample's parameters do `models.wire.chat`'s.  Source: openai-python 2.x, `types/evals`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from models.errors import InvalidRequest
from models.tables.evals import Metric
from models.wire.chat import ChatRequest, Metadata
from models.wire.messages import Strict
from models.wire.problems import validated
from models.wire.sampling import RESPONSES_OWN, SPELLINGS
from models.wire.templates import TemplateMessage

CRITERIA_MOST = 50
ITEMS_MOST = 20_000
"""Of a run.  Each becomes a job, and all become rows at once."""
CANDIDATES_MOST = 20
TEMPLATE_MOST = 64
NAME_CHARACTERS = 200
_TIMES_MOST = 253_402_300_799  # seconds: the end of the year 9999; in milliseconds it still fits the column

Name = Annotated[str, Field(min_length=1, max_length=NAME_CHARACTERS)]
ModelName = Annotated[str, Field(min_length=1, max_length=200)]
Seconds = Annotated[int, Field(ge=0, le=_TIMES_MOST)]
Row = dict[str, Any]


class CustomConfig(Strict):
    type: Literal["custom"]
    item_schema: dict[str, Any]
    include_sample_schema: bool | None = None


class LogsConfig(Strict):
    """`stored_completions` is its older name."""

    type: Literal["logs", "stored_completions"]
    metadata: Metadata | None = None


class EvalRequest(Strict):
    name: Name | None = None
    data_source_config: Annotated[CustomConfig | LogsConfig, Field(discriminator="type")]
    testing_criteria: Annotated[list[Row], Field(min_length=1, max_length=CRITERIA_MOST)]
    metadata: Metadata | None = None


class EvalUpdate(Strict):
    name: Name | None = None
    metadata: Metadata | None = None


class Candidate(Strict):
    """A row of AIGateway's."""

    input: Annotated[str, Field(min_length=1)] | Annotated[list[Row], Field(min_length=1)]
    expected: str | None = None


class ShorthandRequest(Strict):
    name: Name
    candidate_models: Annotated[list[ModelName], Field(min_length=1, max_length=CANDIDATES_MOST)]
    dataset: Annotated[list[Candidate], Field(min_length=1, max_length=ITEMS_MOST)]
    metric: Metric = Field(Metric.QUALITY, strict=False)
    webhook_url: str | None = None

    @model_validator(mode="after")
    def _adds_up(self) -> "ShorthandRequest":
        if len(set(self.candidate_models)) < len(self.candidate_models):
            raise ValueError("candidate_models: a model stands there twice")
        if len(self.candidate_models) * len(self.dataset) > ITEMS_MOST:
            raise ValueError(f"dataset: of all candidates together at most {ITEMS_MOST:,} rows are asked")
        told = [row.expected is not None for row in self.dataset]
        if any(told) and not all(told):
            raise ValueError(f"dataset[{told.index(False)}].expected: every row needs one, or none has any")
        return self


class Given(Strict):
    item: Row
    sample: Row | None = None


class FileContent(Strict):
    type: Literal["file_content"]
    content: Annotated[list[Given], Field(min_length=1, max_length=ITEMS_MOST)]


class FileId(Strict):
    type: Literal["file_id"]
    id: Annotated[str, Field(min_length=1, max_length=64)]


class StoredCompletions(Strict):
    type: Literal["stored_completions"]
    metadata: Metadata | None = None
    model: ModelName | None = None
    created_after: Seconds | None = None
    created_before: Seconds | None = None
    limit: Annotated[int, Field(ge=1, le=ITEMS_MOST)] | None = None


class Template(Strict):
    type: Literal["template"]
    template: Annotated[list[TemplateMessage], Field(min_length=1, max_length=TEMPLATE_MOST)]


class ItemReference(Strict):
    type: Literal["item_reference"]
    item_reference: Annotated[str, Field(min_length=1, max_length=200)]


class JsonlSource(Strict):
    type: Literal["jsonl"]
    source: Annotated[FileContent | FileId, Field(discriminator="type")]


class CompletionsSource(Strict):
    """`responses` asks the same chat in the words of another API of OpenAI's."""

    type: Literal["completions", "responses"]
    source: Annotated[FileContent | FileId | StoredCompletions, Field(discriminator="type")]
    input_messages: Annotated[Template | ItemReference, Field(discriminator="type")] | None = None
    model: ModelName | None = None
    sampling_params: Row | None = None

    @model_validator(mode="after")
    def _is_sampled_or_is_not(self) -> "CompletionsSource":
        if self.model is None:
            idle = next((name for name in ("input_messages", "sampling_params") if getattr(self, name)), None)
            if idle is not None:
                raise ValueError(f"data_source.{idle}: needs a model; without one the given answers are graded")
        elif self.input_messages is None:
            raise ValueError("data_source.input_messages: what the model is to be asked is not said")
        if self.type == "responses" and isinstance(self.source, StoredCompletions):
            raise ValueError("data_source.source.type: stored_completions go with a data source of completions")
        return self


class RunRequest(Strict):
    name: Name | None = None
    data_source: Annotated[JsonlSource | CompletionsSource, Field(discriminator="type")]
    metadata: Metadata | None = None
    webhook_url: str | None = None
    """Ours: where `eval.run.*` is told."""


SAMPLING = (frozenset(ChatRequest.model_fields) | SPELLINGS) - {
    *("model", "messages", "stream", "stream_options", "store", "metadata", "user", "safety_identifier"),
    *("prompt_cache_key", "conversation_id", "background", "service_tier", "raw", "echo", "n"),
}
"""What may stand in `sampling_params`: OpenAI's, and what else a chat takes that changes one answer."""


def run_request(body: Mapping[str, Any]) -> RunRequest:
    """Raises InvalidRequest, for what there is elsewhere and not here in words of its own."""
    source = body.get("data_source")
    inner = source.get("source") if isinstance(source, Mapping) else None
    if isinstance(inner, Mapping) and inner.get("type") == "responses":
        raise InvalidRequest(
            "data_source.source.type: there are no stored responses here; stored_completions are the chats that are",
            param="data_source.source.type",
            code="unsupported_parameter",
        )
    wanted = validated(RunRequest, body)
    if isinstance(wanted.data_source, CompletionsSource):
        _check_sampling(wanted.data_source)
    return wanted


def _check_sampling(source: CompletionsSource) -> None:
    known = SAMPLING | RESPONSES_OWN if source.type == "responses" else SAMPLING
    for name, value in (source.sampling_params or {}).items():
        if value is not None and name not in known:
            where = f"data_source.sampling_params.{name[:NAME_CHARACTERS]}"
            raise InvalidRequest(f"unsupported parameter: {where}", param=where, code="unsupported_parameter")


def is_shorthand(body: Mapping[str, Any]) -> bool:
    """Which of the two bodies this is.  Raises InvalidRequest where it is both."""
    theirs = [name for name in ("candidate_models", "dataset", "metric") if name in body]
    openai = [name for name in ("testing_criteria", "data_source_config") if name in body]
    if theirs and openai:
        raise InvalidRequest(
            f"{theirs[0]}: is of another shape of eval than {openai[0]}; send one of the two", param=theirs[0]
        )
    return bool(theirs)
