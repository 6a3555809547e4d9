"""What does a judge, a model, say of an answer?  A label, a score, or which of two answers is better.

A judge is asked for JSON of a schema, at temperature 0 unless told otherwise.  An answer that is not that, or out of range, is an
error and never a pass; its words stand beside the grade (`output`).  Two answers are shown in both orders: a judge that changes its mind with the order has preferred a place and
not an answer, which is counted (`position_bias`) and scored as a tie.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from models.grading.grader import (
    HALF,
    Grade,
    Grader,
    Question,
    Replies,
    Spec,
    messages_of,
    number_of,
    template_of,
    text_of,
    wrong,
)
from models.grading.template import Namespace, render, render_messages

LABELS_MOST = 100
_SHOWN_CHARACTERS = 200
_SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "max_completions_tokens": "max_completion_tokens",  # OpenAI's own spelling in graders
    "max_completion_tokens": "max_completion_tokens",
    "max_tokens": "max_completion_tokens",
}
PAIR_ROOTS = frozenset({"item", "sample", "first", "second"})
_WINNERS = ("first", "second", "tie")
_AS_GIVEN, _SWAPPED = "as_given", "swapped"

_WORD: dict[str, Any] = {"type": "text", "text": "."}
_IMAGE: dict[str, Any] = {"type": "image_url", "image_url": {"url": "https://"}}


class _Unusable(Exception):
    """What a judge said cannot be read."""


class _Silent(_Unusable):
    """A judge said nothing: it was not asked, or failed."""


class _Judge(Grader):
    roots: frozenset[str] | None = None

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self._model = text_of(spec, "model")
        self._messages = messages_of(spec, "input", self.roots)
        self._parameters = _sampling(spec)

    def _question(self, key: str, namespace: Namespace, wanted: dict[str, Any]) -> Question:
        body = {"model": self._model, "messages": render_messages(self._messages, namespace)}
        shape = {"name": key, "schema": _object(wanted), "strict": True}
        return Question(
            key, body | {"response_format": {"type": "json_schema", "json_schema": shape}} | self._parameters
        )

    def _graded(self, namespace: Namespace, replies: Replies) -> Grade:
        self._questions(namespace)  # raises what the item lacks
        said = [{"role": "assistant", "content": reply} for reply in replies.values() if reply is not None]
        grade = self._read(replies)
        return replace(grade, detail=grade.detail | {"output": said}) if said else grade

    def _read(self, replies: Replies) -> Grade:
        try:
            return self._judged(replies)
        except _Silent as error:
            return self.failed(f"the judge's answer cannot be read: {error}")
        except _Unusable as error:
            return self.failed(f"the judge's answer cannot be read: {error}", parse_failure=True)

    @abstractmethod
    def _judged(self, replies: Replies) -> Grade: ...


def draft(spec: Spec) -> dict[str, Any]:
    """The chat of a sound judge before its places are filled: who speaks, where images come, and the parameters are as they will be."""
    messages = [{"role": each["role"], "content": _stand_ins(each["content"])} for each in spec["input"]]
    return {"model": spec["model"], "messages": messages} | _sampling(spec)


def _stand_ins(content: Any) -> list[dict[str, Any]]:
    parts = content if isinstance(content, list) else [content]
    return [_IMAGE if isinstance(part, Mapping) and "image_url" in part else _WORD for part in parts]


class LabelModel(_Judge):
    kind = "label_model"

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self._labels = _labels(spec, "labels")
        self._passing = _labels(spec, "passing_labels")
        if stray := sorted(set(self._passing) - set(self._labels)):
            raise wrong("passing_labels", f"{stray[0]!r} is not among the labels")

    def _questions(self, namespace: Namespace) -> list[Question]:
        return [self._question("label", namespace, {"label": {"type": "string", "enum": self._labels}})]

    def _judged(self, replies: Replies) -> Grade:
        label = _read(replies.get("label"), "label")
        if label not in self._labels:
            raise _Unusable(f"{_shown(label)} is not a label")
        return self.scored(float(label in self._passing), label=label)


class ScoreModel(_Judge):
    kind = "score_model"

    def __init__(self, spec: Spec) -> None:
        self._low, self._high = _range(spec)
        super().__init__(spec)

    def _middle(self, spec: Spec) -> float:
        low, high = _range(spec)
        return (low + high) / 2

    def _questions(self, namespace: Namespace) -> list[Question]:
        wanted = {"type": "number", "minimum": self._low, "maximum": self._high}  # engines with a grammar keep to it
        return [self._question("score", namespace, {"score": wanted})]

    def _judged(self, replies: Replies) -> Grade:
        score = _read(replies.get("score"), "score")
        if isinstance(score, bool) or not isinstance(score, int | float):
            raise _Unusable(f"{_shown(score)} is not a number")
        if not self._low <= score <= self._high:
            raise _Unusable(f"{_shown(score)} is not from {self._low:g} to {self._high:g}")
        return self.scored(float(score))


class PairModel(_Judge):
    """Ours, beside OpenAI's: which is better, `candidate` or `reference`?  The messages show them as `{{first}}` and `{{second}}`.

    1: the candidate in both orders; 0: the reference in both; 0.5: a tie, or a judge that changed its mind with the order.
    """

    kind = "pair_model"
    roots = PAIR_ROOTS

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self._candidate = template_of({"candidate": "{{sample.output_text}}"} | dict(spec), "candidate")
        self._reference = template_of(spec, "reference")

    def _questions(self, namespace: Namespace) -> list[Question]:
        pair = render(self._candidate, namespace), render(self._reference, namespace)
        wanted = {"better": {"type": "string", "enum": list(_WINNERS)}}
        shown = {_AS_GIVEN: pair, _SWAPPED: pair[::-1]}
        return [
            self._question(key, {**namespace, "first": first, "second": second}, wanted)
            for key, (first, second) in shown.items()
        ]

    def _judged(self, replies: Replies) -> Grade:
        verdicts = {key: self._verdict(replies.get(key)) for key in (_AS_GIVEN, _SWAPPED)}
        points = (_POINTS[verdicts[_AS_GIVEN]], 1.0 - _POINTS[verdicts[_SWAPPED]])
        agreed = points[0] == points[1]
        return self.scored(points[0] if agreed else HALF, position_bias=not agreed, **verdicts)

    def _verdict(self, reply: str | None) -> str:
        found = _read(reply, "better")
        if found not in _WINNERS:
            raise _Unusable(f"{_shown(found)} is none of {', '.join(_WINNERS)}")
        return str(found)


_POINTS = {"first": 1.0, "tie": HALF, "second": 0.0}


def _read(reply: str | None, field: str) -> Any:
    if reply is None:
        raise _Silent("there is none")
    try:
        found = orjson.loads(reply)
    except orjson.JSONDecodeError:
        raise _Unusable(f"{_shown(reply)} is not JSON") from None
    if not isinstance(found, dict) or field not in found:
        raise _Unusable(f"{_shown(reply)} has no {field}")
    return found[field]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _sampling(spec: Spec) -> dict[str, Any]:
    given = spec.get("sampling_params") or {}
    if not isinstance(given, Mapping):
        raise wrong("sampling_params", "an object is wanted")
    known = {name: value for name, value in given.items() if value is not None}
    if strange := sorted(set(known) - set(_SAMPLING)):
        raise wrong(f"sampling_params.{strange[0]}", f"not taken here; {', '.join(sorted(_SAMPLING))} are")
    for name, value in known.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong(f"sampling_params.{name}", "a number is wanted")
    return {"temperature": 0} | {_SAMPLING[name]: value for name, value in known.items()}


def _labels(spec: Spec, field: str) -> list[str]:
    found = spec.get(field)
    if not isinstance(found, list) or not 0 < len(found) <= LABELS_MOST:
        raise wrong(field, f"1 to {LABELS_MOST} labels are wanted")
    if not all(isinstance(label, str) and label for label in found) or len(set(found)) < len(found):
        raise wrong(field, "labels are texts, each once")
    return found


def _range(spec: Spec) -> tuple[float, float]:
    found = spec.get("range")
    if found is None:
        return 0.0, 1.0
    if not isinstance(found, list) or len(found) != 2:  # noqa: PLR2004
        raise wrong("range", "two numbers are wanted")
    low, high = (number_of({"range": each}, "range", math.nan) for each in found)
    if not low < high:
        raise wrong("range", "the first number is the lower one")
    return low, high
