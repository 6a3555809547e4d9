"""Which fields may a criterion have?  One that is not known here is refused by name, since a grader would overlook it."""

from collections.abc import Iterator, Mapping
from typing import Any

from models.errors import InvalidRequest

_ALL = frozenset({"type", "name", "pass_threshold"})
_JUDGE = frozenset({"model", "input", "sampling_params"})
_FIELDS: dict[str, frozenset[str]] = {
    "string_check": frozenset({"input", "operation", "reference"}),
    "text_similarity": frozenset({"input", "reference", "evaluation_metric"}),
    "label_model": _JUDGE | {"labels", "passing_labels"},
    "score_model": _JUDGE | {"range"},
    "pair_model": _JUDGE | {"candidate", "reference"},
    "json_schema": frozenset({"input", "schema"}),
    "expression": frozenset({"expression"}),
    "multi": frozenset({"graders", "calculate_output"}),
}
_SHOWN_CHARACTERS = 80


def check_fields(spec: Mapping[str, Any], place: str) -> None:
    """Of a criterion that is right otherwise; raises InvalidRequest."""
    unknown = sorted(spec.keys() - _FIELDS[spec["type"]] - _ALL)
    if unknown:
        where = f"{place}.{unknown[0][:_SHOWN_CHARACTERS]}"
        raise InvalidRequest(f"unsupported parameter: {where}", param=where, code="unsupported_parameter")
    for below, each in members(spec):
        check_fields(each, f"{place}.{below}")


def members(spec: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The graders of a `multi`, by their places; in a list, by their keys, or alone."""
    inner = spec.get("graders")
    if isinstance(inner, Mapping) and isinstance(inner.get("type"), str):
        yield "graders", inner
    elif isinstance(inner, Mapping):
        yield from ((f"graders.{key}", each) for key, each in inner.items() if isinstance(each, Mapping))
    elif isinstance(inner, list):
        yield from ((f"graders[{n}]", each) for n, each in enumerate(inner) if isinstance(each, Mapping))
