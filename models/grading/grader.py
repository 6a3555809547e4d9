"""What is a grader, and what is a grade?  The words that all graders share, and how their specifications are read.

A grader looks at one item and one answer; some first have a judge, a model, asked.  Whatever an item lacks or a judge spoils becomes a
grade with `error`, which has not passed and counts apart from answers that were judged and failed.  Relies on JSON values only.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.errors import InvalidRequest, TooLarge
from models.grading.effort import go_on
from models.grading.template import MISSING, Namespace, check, texts_of
from models.wire.templates import check_messages

NAME_CHARACTERS = 200
TEXT_CHARACTERS = 100_000
"""A template's, a message's; longer ones are mistakes."""
MESSAGES_MOST = 64
HALF = 0.5

Spec = Mapping[str, Any]
Replies = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Question:
    """A chat that a judge has to answer; `key` is unique within the grader, `body` is a chat-completions request."""

    key: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Grade:
    name: str
    score: float
    passed: bool
    detail: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    """Why there is no judgement; None: there is one."""


class Grader(ABC):
    kind: str
    """The specification's `type`."""

    def __init__(self, spec: Spec) -> None:
        self.name = text_of(spec, "name", most=NAME_CHARACTERS)
        self.pass_threshold = number_of(spec, "pass_threshold", self._middle(spec))

    def asks(self, namespace: Namespace) -> list[Question]:
        """What judges must answer first; nothing where the item lacks what the question needs: `grade` says so."""
        try:
            return self._questions(namespace)
        except InvalidRequest:
            return []

    def grade(self, namespace: Namespace, replies: Replies) -> Grade:
        """`replies` by the keys of `asks`; None where the judge failed."""
        try:
            go_on()
            return self._graded(namespace, replies)
        except (InvalidRequest, TooLarge) as error:
            if error.own_code == MISSING and (error.param or "").startswith("sample"):
                return Grade(self.name, 0.0, passed=False, detail={"missing": error.param})
            return self.failed(error.message)

    def failed(self, error: str, **detail: Any) -> Grade:
        """No judgement."""
        return Grade(self.name, 0.0, passed=False, detail=detail, error=error)

    def scored(self, score: float, **detail: Any) -> Grade:
        return Grade(self.name, score, passed=score >= self.pass_threshold, detail=detail)

    def _middle(self, spec: Spec) -> float:  # noqa: ARG002 -- some graders' middle depends on it
        """The threshold where none is given."""
        return HALF

    def _questions(self, namespace: Namespace) -> list[Question]:  # noqa: ARG002 -- most ask nothing
        return []

    @abstractmethod
    def _graded(self, namespace: Namespace, replies: Replies) -> Grade: ...


def text_of(spec: Spec, field_name: str, *, most: int = TEXT_CHARACTERS) -> str:
    found = spec.get(field_name)
    if not isinstance(found, str) or not found:
        raise wrong(field_name, "a text is wanted")
    if len(found) > most:
        raise wrong(field_name, f"at most {most:,} characters are taken")
    return found


def template_of(spec: Spec, field_name: str, roots: frozenset[str] | None = None) -> str:
    found = spec.get(field_name)
    if not isinstance(found, str):
        raise wrong(field_name, "a text is wanted")
    if len(found) > TEXT_CHARACTERS:
        raise wrong(field_name, f"at most {TEXT_CHARACTERS:,} characters are taken")
    check(found, field_name, *([roots] if roots else []))
    return found


def one_of(spec: Spec, field_name: str, words: Sequence[str]) -> str:
    found = spec.get(field_name)
    if not isinstance(found, str) or found not in words:
        raise wrong(field_name, f"one of {', '.join(words)} is wanted")
    return found


def number_of(spec: Spec, field_name: str, default: float) -> float:
    found = spec.get(field_name)
    if found is None:
        return default
    if isinstance(found, bool) or not isinstance(found, int | float) or abs(found) > 1e15:  # noqa: PLR2004 -- a float's whole numbers
        raise wrong(field_name, "a number is wanted")
    return float(found)


def messages_of(spec: Spec, field_name: str, roots: frozenset[str] | None = None) -> list[dict[str, Any]]:
    found = spec.get(field_name)
    if not isinstance(found, list) or not 0 < len(found) <= MESSAGES_MOST:
        raise wrong(field_name, f"1 to {MESSAGES_MOST} messages are wanted")
    check_messages(found, field_name)
    for number, message in enumerate(found):
        _check_size(message, f"{field_name}[{number}]")
    for text in texts_of(found):
        check(text, field_name, *([roots] if roots else []))
    return found


def _check_size(message: Mapping[str, Any], place: str) -> None:
    if not message["content"]:
        raise wrong(place, "its content is empty")
    if sum(map(len, texts_of([message]))) > TEXT_CHARACTERS:
        raise wrong(place, f"at most {TEXT_CHARACTERS:,} characters are taken")


def wrong(field_name: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"{field_name}: {why}", param=field_name)
