"""How good is an answer?  Graders as OpenAI's evals specify them, from a grader's JSON to a grade.

    grader = grader_of({"type": "string_check", "name": "right", "operation": "eq", ...})
    questions = grader.asks(namespace)          # chats that a judge has to answer first; mostly none
    grade = grader.grade(namespace, replies)    # replies by the questions' keys

The namespace is `{"item": {...}, "sample": {"output_text": ..., "output_json": ..., "output_tools": [...], "model": ...}}`.  Pure: who
asks the judges, and when, is the caller's business.  Metrics' libraries are imported when they are first needed.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from models.errors import InvalidRequest, TooLarge
from models.grading.checks import JsonSchema, StringCheck
from models.grading.computed import GRADERS_MOST, ComputedByExpression, Multi
from models.grading.effort import go_on
from models.grading.grader import NAME_CHARACTERS, Grade, Grader, Question, Spec, wrong
from models.grading.judges import LabelModel, PairModel, ScoreModel
from models.grading.similarity import TextSimilarity

__all__ = ["KINDS", "Grade", "Grader", "Question", "grader_of"]

_PLAIN: dict[str, Callable[[Spec], Grader]] = {
    kind.kind: kind
    for kind in (StringCheck, TextSimilarity, LabelModel, ScoreModel, PairModel, JsonSchema, ComputedByExpression)
}
KINDS = (*_PLAIN, Multi.kind)


def grader_of(spec: Any) -> Grader:
    """The grader that a specification describes.  Raises InvalidRequest whose `param` is the field at fault."""
    go_on()
    kind = spec.get("type") if isinstance(spec, Mapping) else None
    if kind == Multi.kind:
        return Multi(spec, dict(_members(spec.get("graders"))))
    if kind == "python":
        raise wrong("type", "python graders run no program here; write an expression: docs/evals.md tells how")
    if not isinstance(kind, str) or kind not in _PLAIN:
        raise wrong("type", f"one of {', '.join(KINDS)} is wanted")
    return _PLAIN[kind](spec)


def _members(graders: Any) -> Iterator[tuple[str, Grader]]:
    """Named by their keys; in a list, or alone, by their own names."""
    specs = [graders] if isinstance(graders, Mapping) and isinstance(graders.get("type"), str) else graders
    if not isinstance(specs, list | Mapping) or not 0 < len(specs) <= GRADERS_MOST:
        raise wrong("graders", f"1 to {GRADERS_MOST} graders are wanted")
    named = specs.items() if isinstance(specs, Mapping) else [(None, each) for each in specs]
    seen = set()
    for number, (key, spec) in enumerate(named):
        place = f"graders.{key}" if key is not None else f"graders[{number}]"
        grader = _member(spec, place)
        name = str(key or grader.name)
        if len(name) > NAME_CHARACTERS:  # it is part of the names of what judges are asked
            raise wrong("graders", f"a grader's key has at most {NAME_CHARACTERS} characters")
        if not name.isidentifier() or name in seen:
            raise wrong(place, f"{name!r} cannot be named in a formula, or is there twice")
        seen.add(name)
        yield name, grader


def _member(spec: Any, place: str) -> Grader:
    if isinstance(spec, Mapping) and spec.get("type") == Multi.kind:
        raise wrong(f"{place}.type", "a multi grader holds no other multi grader")
    try:
        return grader_of(spec)
    except TooLarge:  # all that was read before this one
        raise
    except InvalidRequest as error:
        raise InvalidRequest(f"{place}.{error.message}", param=f"{place}.{error.param}") from None
