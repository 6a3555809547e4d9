"""Which ways has a conversation gone?  One a leaf: a message that nothing has been said behind.

Every choice of an answer that was not continued ends a branch, and so does a prompt that nothing has answered.  The same words
said twice, as by a replay that came out identical, are one branch.  Relies on the tree alone: no turn is asked what it continues.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy.orm import Session

from models import transcripts
from models.tables.jobs import Job
from models.tables.transcripts import Answer, Turn
from models.transcripts import Node


@dataclass(frozen=True, slots=True)
class Said:
    """A tip of a turn: one choice of its answer, or its prompt where it has none."""

    turn: Turn
    job: Job
    tip: str
    answer: Answer | None = None

    @property
    def choice(self) -> int:
        return 0 if self.answer is None else self.answer.choice


@dataclass(frozen=True)
class Told:
    """A conversation, as it is in memory while somebody looks at it."""

    turns: Sequence[tuple[Turn, Job]]
    answers: Mapping[str, Sequence[tuple[Answer, dict[str, Any]]]]
    tree: Mapping[str, Node]

    @cached_property
    def said(self) -> list[Said]:
        """Every tip, in the order of the turns."""
        return [each for turn, job in self.turns for each in self._tips(turn, job)]

    @cached_property
    def answered(self) -> dict[str, Said]:
        """Who said a message: of several the first, and a replay last."""
        found: dict[str, Said] = {}
        for each in sorted(self.said, key=lambda each: each.turn.replay):
            if each.answer is not None:
                found.setdefault(each.tip, each)
        return found

    @cached_property
    def leaves(self) -> list[Said]:
        inner = {node.parent for node in self.tree.values()}
        first: dict[str, Said] = {}
        for each in sorted(self.said, key=lambda each: each.turn.replay):
            if each.tip not in inner:
                first.setdefault(each.tip, each)
        return sorted(first.values(), key=lambda each: (each.turn.job_id, each.choice))

    @cached_property
    def heard(self) -> dict[str, set[str]]:
        """The tips of each turn, and what it was asked."""
        found: dict[str, set[str]] = {}
        for each in self.said:
            found.setdefault(each.turn.job_id, {each.turn.prompt}).add(each.tip)
        return found

    def nodes(self, tip: str) -> list[Node]:
        """Down to it, from the first."""
        return list(self._upwards(tip))[::-1]

    def _upwards(self, tip: str) -> Iterator[Node]:
        here: str | None = tip
        while here is not None:
            yield self.tree[here]
            here = self.tree[here].parent

    def _tips(self, turn: Turn, job: Job) -> list[Said]:
        answers = self.answers[turn.job_id]
        return [Said(turn, job, answer.hash, answer) for answer, _ in answers] or [Said(turn, job, turn.prompt)]


def told(session: Session, conversation_id: str) -> Told:
    turns = transcripts.turns(session, conversation_id)
    answers = transcripts.answers_of(session, [turn.job_id for turn, _ in turns])
    tips = {turn.prompt for turn, _ in turns} | {answer.hash for each in answers.values() for answer, _ in each}
    return Told(turns, answers, transcripts.tree_above(session, sorted(tips)))
