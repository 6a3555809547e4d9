"""What does somebody want measured?  A suite: data, a question, variants to ask it of, graders, slices, thresholds.

A suite becomes one eval and a run of it for each variant, as OpenAI's evals take them; its digest tells whether an eval that is there
already is of this suite.  Raises InvalidRequest that names the field.  Who reads files and asks the service is `api.suites`' and
`api.measuring`'s business.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import orjson
from pydantic import Field, model_validator

from models.errors import InvalidRequest
from models.grading import grader_of
from models.grading.results import Threshold, check_slices
from models.grading.template import check, texts_of
from models.wire.criteria import check_fields
from models.wire.messages import Strict
from models.wire.problems import validated

VARIANTS_MOST = 20
ROWS_MOST = 20_000
"""As many as a run of an eval takes."""
GRADERS_MOST = 50
_DIGEST_BYTES = 12

Row = dict[str, Any]
Name = Annotated[str, Field(min_length=1, max_length=200)]


class Dataset(Strict):
    """One of the two; a path is told from the suite's own folder."""

    path: str | None = None
    items: list[Row] | None = None
    limit: Annotated[int, Field(ge=1, le=ROWS_MOST)] | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> "Dataset":
        if (self.path is None) is (self.items is None):
            raise ValueError("dataset: either a path or items are wanted")
        return self


class Variant(Strict):
    """A model and how it is asked; `messages` or `prompt` take the place of the suite's, `system` stands before them."""

    name: Name
    model: Name
    system: str | None = None
    parameters: Row = Field(default_factory=dict)
    prompt: str | None = None
    messages: list[Row] | None = None


class Wanted(Strict):
    """`not_worse_by`: how far the mean may lie below the first variant's."""

    grader: Name
    variant: Name | None = None
    mean: float | None = None
    pass_rate: float | None = None
    not_worse_by: float | None = None

    @model_validator(mode="after")
    def _one_of_three(self) -> "Wanted":
        if sum(each is not None for each in (self.mean, self.pass_rate, self.not_worse_by)) != 1:
            raise ValueError("thresholds: one of mean, pass_rate and not_worse_by is wanted")
        return self


class Suite(Strict):
    name: Name
    dataset: Dataset
    prompt: str | None = None
    messages: list[Row] | None = None
    variants: Annotated[list[Variant], Field(min_length=1, max_length=VARIANTS_MOST)]
    graders: Annotated[list[Row], Field(min_length=1, max_length=GRADERS_MOST)]
    slices: list[str] = Field(default_factory=list)
    thresholds: list[Wanted] = Field(default_factory=list)
    errors_most: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of answers that may be without a judgement."""

    def demands(self) -> list[Threshold]:
        return [
            Threshold(each.grader, each.variant, each.mean, each.pass_rate, each.not_worse_by)
            for each in self.thresholds
        ]


def suite_of(body: Any) -> Suite:
    """Raises InvalidRequest."""
    if not isinstance(body, Mapping):
        raise InvalidRequest("a suite is a mapping of name, dataset, prompt, variants and graders")
    suite = validated(Suite, body)
    graders = [_grader_name(spec, place) for place, spec in enumerate(suite.graders)]
    variants = [variant.name for variant in suite.variants]
    for what, names in (("graders", graders), ("variants", variants)):
        if len(set(names)) < len(names):
            raise InvalidRequest(f"{what}: a name stands there twice", param=what)
    check_slices(suite.slices)
    for variant in suite.variants:
        messages_of(suite, variant)
    _check_thresholds(suite.thresholds, graders, variants)
    return suite


def messages_of(suite: Suite, variant: Variant) -> list[Row]:
    """What a variant is asked, with its places not yet filled."""
    own = _said(variant.prompt, variant.messages, f"variants.{variant.name}")
    asked = own or _said(suite.prompt, suite.messages, "the suite")
    if not asked:
        raise InvalidRequest(
            f"prompt: neither the suite nor its variant {variant.name} says what is asked", param="prompt"
        )
    system = [] if variant.system is None else [{"role": "system", "content": variant.system}]
    for text in texts_of([*system, *asked]):
        check(text, "messages", frozenset({"item"}))
    return [*system, *asked]


def eval_body(suite: Suite, metadata: Mapping[str, str]) -> Row:
    config = {"type": "custom", "item_schema": {"type": "object"}, "include_sample_schema": True}
    return {
        "name": suite.name,
        "data_source_config": config,
        "testing_criteria": suite.graders,
        "metadata": dict(metadata),
    }


def run_body(suite: Suite, variant: Variant, source: Mapping[str, Any], metadata: Mapping[str, str]) -> Row:
    """`source` holds the rows: `file_content` or `file_id`."""
    data_source = {
        "type": "completions",
        "source": dict(source),
        "input_messages": {"type": "template", "template": messages_of(suite, variant)},
        "model": variant.model,
        "sampling_params": variant.parameters,
    }
    return {"name": variant.name, "data_source": data_source, "metadata": dict(metadata)}


def digest(suite: Suite, rows: Sequence[Row]) -> str:
    """Of what is asked and how it is graded; thresholds and slices may change without asking anew."""
    asked = suite.model_dump(include={"name", "prompt", "messages", "variants", "graders"})
    written = orjson.dumps([asked, list(rows)], option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(written, digest_size=_DIGEST_BYTES).hexdigest()


def _said(prompt: str | None, messages: list[Row] | None, whose: str) -> list[Row]:
    if prompt is not None and messages is not None:
        raise InvalidRequest(f"prompt: {whose} has messages, too; one of the two is wanted", param="prompt")
    return [{"role": "user", "content": prompt}] if prompt is not None else messages or []


def _grader_name(spec: Row, place: int) -> str:
    try:
        name = grader_of(spec).name
    except InvalidRequest as error:
        raise InvalidRequest(f"graders[{place}].{error.message}", param=f"graders[{place}].{error.param}") from None
    check_fields(spec, f"graders[{place}]")
    return name


def _check_thresholds(wanted: Sequence[Wanted], graders: Sequence[str], variants: Sequence[str]) -> None:
    for place, each in enumerate(wanted):
        if each.grader not in graders:
            raise InvalidRequest(f"thresholds[{place}].grader: there is no grader {each.grader!r}", param="thresholds")
        if each.variant is not None and each.variant not in variants:
            raise InvalidRequest(f"thresholds[{place}].variant: there is no {each.variant!r}", param="thresholds")
        if each.not_worse_by is not None and each.variant == variants[0]:
            raise InvalidRequest(
                f"thresholds[{place}]: the first variant is what others are held against", param="thresholds"
            )
