"""What do an expression, or several graders together, say of an answer?

`expression` takes the place of OpenAI's `python`: no stranger's program runs here.  `multi` computes one score from those of others;
where one of them has no judgement, it has none.
"""

from collections.abc import Mapping
from typing import Any

from models.errors import InvalidRequest
from models.grading.grader import Grade, Grader, Question, Replies, Spec, text_of, wrong
from models.grading.language import Expression
from models.grading.template import ROOTS, Namespace

GRADERS_MOST = 32


class ComputedByExpression(Grader):
    """True is 1, false is 0; without a threshold 0.5 has to be reached."""

    kind = "expression"

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self._expression = _expression(spec, "expression", ROOTS)

    def _graded(self, namespace: Namespace, replies: Replies) -> Grade:  # noqa: ARG002
        return self.scored(self._expression.number(namespace))


class Multi(Grader):
    """`calculate_output` names the graders by their keys, or, in a list, by their names; `^` is a power, as with OpenAI."""

    kind = "multi"

    def __init__(self, spec: Spec, graders: Mapping[str, Grader]) -> None:
        super().__init__(spec)
        self._graders = dict(graders)
        formula = text_of(spec, "calculate_output")
        if '"' in formula or "'" in formula:
            raise wrong("calculate_output", "a formula computes with numbers")
        powers = {"calculate_output": formula.replace("^", "**")}
        self._formula = _expression(powers, "calculate_output", frozenset(self._graders))

    def _questions(self, namespace: Namespace) -> list[Question]:
        return [
            Question(f"{key}.{question.key}", question.body)
            for key, grader in self._graders.items()
            for question in grader.asks(namespace)
        ]

    def _graded(self, namespace: Namespace, replies: Replies) -> Grade:
        grades = {key: grader.grade(namespace, _own(replies, key)) for key, grader in self._graders.items()}
        detail = {key: _told(grade) for key, grade in grades.items()}
        failed = [f"{key}: {grade.error}" for key, grade in grades.items() if grade.error]
        if failed:
            lost = any(grade.detail.get("parse_failure") for grade in grades.values())
            return self.failed("; ".join(failed), graders=detail, **({"parse_failure": True} if lost else {}))
        return self.scored(self._formula.number({key: grade.score for key, grade in grades.items()}), graders=detail)


def _expression(spec: Spec, field: str, names: frozenset[str]) -> Expression:
    try:
        return Expression(text_of(spec, field), names)
    except InvalidRequest as error:
        raise InvalidRequest(f"{field}: {error.message.removeprefix(f'{field}: ')}", param=field) from None


def _own(replies: Replies, key: str) -> dict[str, str | None]:
    begin = f"{key}."
    return {name.removeprefix(begin): reply for name, reply in replies.items() if name.startswith(begin)}


def _told(grade: Grade) -> dict[str, Any]:
    told = {"score": grade.score, "passed": grade.passed, **grade.detail}
    return told if grade.error is None else told | {"error": grade.error}
