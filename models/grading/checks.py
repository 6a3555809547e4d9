"""Is an answer what it had to be?  Exactly (`string_check`), or in shape (`json_schema`).

Answers that fail are failures, not errors: an answer that is no JSON has been judged.
"""

from collections.abc import Callable

import orjson

from models.grading.grader import Grade, Grader, Replies, Spec, one_of, template_of
from models.grading.schemas import problem, schema_of
from models.grading.template import Namespace, render

_OPERATIONS: dict[str, Callable[[str, str], bool]] = {
    "eq": lambda text, reference: text == reference,
    "ne": lambda text, reference: text != reference,
    "like": lambda text, reference: reference in text,
    "ilike": lambda text, reference: reference.casefold() in text.casefold(),
}


class StringCheck(Grader):
    """`like` and `ilike` ask whether the input contains the reference; `ilike` whatever the case."""

    kind = "string_check"

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self._input, self._reference = template_of(spec, "input"), template_of(spec, "reference")
        self._holds = _OPERATIONS[one_of(spec, "operation", tuple(_OPERATIONS))]

    def _graded(self, namespace: Namespace, replies: Replies) -> Grade:  # noqa: ARG002
        return self.scored(float(self._holds(render(self._input, namespace), render(self._reference, namespace))))


class JsonSchema(Grader):
    """Ours, beside OpenAI's: whether the input is JSON and fits a schema."""

    kind = "json_schema"

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self._input = template_of(spec, "input")
        self._schema = schema_of(spec.get("schema"), "schema")

    def _graded(self, namespace: Namespace, replies: Replies) -> Grade:  # noqa: ARG002
        try:
            found = orjson.loads(render(self._input, namespace))
        except orjson.JSONDecodeError as error:
            return self.scored(0.0, problem=f"not JSON: {error}")
        trouble = problem(self._schema, found)
        return self.scored(0.0, problem=trouble) if trouble else self.scored(1.0)
