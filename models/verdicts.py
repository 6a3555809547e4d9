"""What does it prove that two answers differ, or that they do not?

`identical` is a fact, whatever stood behind the answers.  A difference is `diverged` where nothing that we know of explains it but
the engine's own arithmetic, and where the replay was asked to change something: then it is the answer to that question.  It is
`not_comparable` where the request was to be the same and yet something else was not: the environment, the dice, the history.  Beside
the verdict stand all reasons, so `comparable` tells whether equality could be expected at all.  See docs/decisions/0014.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from models.comparison import Difference, Message, Mode, first_difference, same_calls, similarity, written
from models.environments import DETERMINISTIC, Facts, differences, why_not_deterministic
from models.lifecycle import JobState


class Verdict(StrEnum):
    IDENTICAL = "identical"
    """The same, as closely as the mode looks."""
    DIVERGED = "diverged"
    """They part at `first_difference`."""
    PENDING = "pending"
    """The new answer is not there yet."""
    NOT_COMPARABLE = "not_comparable"
    """There is nothing to compare, or a difference has another cause than the engine; `reasons` tell which."""


class Why(StrEnum):
    NO_ANSWER = "no_answer"
    BROKEN_OFF = "broken_off"
    """One of the two answers was cut off from outside: cancelled, expired, failed."""
    OVERRIDDEN = "overridden"
    """The replay was asked to change the request."""
    ENVIRONMENT = "environment"
    ENVIRONMENT_UNKNOWN = "environment_unknown"
    SAMPLED = "sampled"
    """Tokens were drawn by dice that cannot be thrown again alike."""
    HISTORY = "history"
    """A live conversation has already taken another course."""
    NOT_DETERMINISTIC = "not_deterministic"
    """What may explain a divergence; it does not make answers incomparable."""


_ASKED_FOR = frozenset({Why.OVERRIDDEN})
_HARMLESS = frozenset({Why.NOT_DETERMINISTIC})


@dataclass(frozen=True, slots=True)
class Reason:
    code: Why
    message: str
    details: tuple[Mapping[str, Any], ...] = ()

    def told(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "details": [dict(each) for each in self.details]}


@dataclass(frozen=True, slots=True)
class Side:
    """A turn as it was answered."""

    state: JobState
    answers: Sequence[Message]
    parameters: Mapping[str, Any]
    environment: Facts | None
    error: str | None = None
    messages_same: bool = True
    """Of the replayed side: whether it was asked with the recorded prompt, apart from what was overridden."""


@dataclass(frozen=True, slots=True)
class Judgement:
    verdict: Verdict
    comparable: bool
    reasons: Sequence[Reason] = ()
    difference: Difference | None = None
    similarity: float | None = None
    same_calls: bool | None = None
    lengths: tuple[int | None, int | None] = (None, None)
    """Characters of all choices, recorded and replayed."""

    def told(self) -> dict[str, Any]:
        """As it is stored beside the turn: nothing of what was said, so that a turn that is deleted is gone from here too."""
        where = self.difference
        place = None if where is None else {"choice": where.choice, "position": where.position}
        return {
            "verdict": self.verdict,
            "comparable": self.comparable,
            "reasons": [reason.told() for reason in self.reasons],
            "difference": place,
            "similarity": self.similarity,
            "same_calls": self.same_calls,
            "lengths": list(self.lengths),
        }


@dataclass(frozen=True, slots=True)
class Terms:
    """What was agreed before: how closely to look, and what was to be changed."""

    mode: Mode = Mode.EXACT
    changed: Sequence[Mapping[str, Any]] = field(default=())
    """Each `{parameter, recorded, replayed}`."""


def judge(recorded: Side, replayed: Side, terms: Terms) -> Judgement:
    """Of two turns that have ended."""
    reasons = [*_reasons(recorded, replayed, terms)]
    lengths = _length(recorded.answers), _length(replayed.answers)
    if not (recorded.answers and replayed.answers):
        return Judgement(Verdict.NOT_COMPARABLE, comparable=False, reasons=reasons, lengths=lengths)
    difference = first_difference(recorded.answers, replayed.answers, terms.mode)
    codes = {reason.code for reason in reasons}
    return Judgement(
        verdict=_verdict(codes, same=difference is None),
        comparable=codes <= _HARMLESS,
        reasons=reasons,
        difference=difference,
        similarity=1.0 if difference is None else similarity(recorded.answers, replayed.answers),
        same_calls=same_calls(recorded.answers, replayed.answers),
        lengths=lengths,
    )


def _verdict(codes: set[Why], *, same: bool) -> Verdict:
    if same:
        return Verdict.IDENTICAL
    explained = codes - _HARMLESS and not codes & _ASKED_FOR
    return Verdict.NOT_COMPARABLE if explained else Verdict.DIVERGED


def _reasons(recorded: Side, replayed: Side, terms: Terms) -> Iterator[Reason]:
    for which, side in (("recorded", recorded), ("replayed", replayed)):
        yield from _ended(which, side)
    if terms.changed:
        names = ", ".join(change["parameter"] for change in terms.changed)
        yield Reason(Why.OVERRIDDEN, f"the replay was asked to change {names}", tuple(terms.changed))
    if not replayed.messages_same:
        yield Reason(Why.HISTORY, "the conversation took another course before this turn, so the prompts differ")
    if recorded.environment is None or replayed.environment is None:
        yield Reason(Why.ENVIRONMENT_UNKNOWN, "it is not known what made one of the answers")
    elif found := differences(recorded.environment, replayed.environment):
        names = ", ".join(each["fact"] for each in found)
        yield Reason(Why.ENVIRONMENT, f"the answers were made in different environments: {names}", tuple(found))
    yield from _dice(recorded, replayed)


def _ended(which: str, side: Side) -> Iterator[Reason]:
    failure = f": {side.error}" if side.error else ""
    if not side.answers:
        yield Reason(Why.NO_ANSWER, f"the {which} turn has no answer: it is {side.state}{failure}")
    elif side.state is not JobState.COMPLETED:
        yield Reason(Why.BROKEN_OFF, f"the {which} answer was broken off: the turn is {side.state}{failure}")


def _dice(recorded: Side, replayed: Side) -> Iterator[Reason]:
    both = (recorded, replayed)
    even = all((side.environment or {}).get(DETERMINISTIC) for side in both)
    if not even and (why := why_not_deterministic(replayed.environment or recorded.environment or {})):
        yield Reason(Why.NOT_DETERMINISTIC, why)
    if not any(_draws(side.parameters) for side in both):
        return
    if any(side.parameters.get("seed") is None for side in both):
        yield Reason(
            Why.SAMPLED, "the temperature is above 0 and no seed was given, so tokens are drawn anew each time"
        )
    elif not even:
        yield Reason(
            Why.SAMPLED, "the temperature is above 0, and SGLang heeds a seed only with deterministic inference"
        )


def _draws(parameters: Mapping[str, Any]) -> bool:
    temperature = parameters.get("temperature")
    return (1 if temperature is None else temperature) > 0 and parameters.get("top_k") != 1


def _length(answers: Sequence[Message]) -> int | None:
    return sum(len(written(each)) for each in answers) if answers else None
