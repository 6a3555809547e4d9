"""Which turns does a replay ask again, and with what?  Queries over what was recorded; nothing is written.

A replay is a batch (`models.batches`) of the kind `replay`.  Its plan, the recorded turns in their order, is settled when it is asked for;
prompts are read from the transcript only when a turn's time has come, so a long conversation is never held, nor stored, n times.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session

from models import transcripts
from models.batches import NewRow
from models.comparison import Mode, first_difference
from models.errors import NotFound
from models.lifecycle import JobState
from models.listings import tells
from models.replay import goes_on, request_again, with_system
from models.tables.batches import Batch, BatchKind, BatchRow
from models.tables.jobs import NO_RESULT, Door, Job
from models.tables.transcripts import Answer, Turn
from models.wire.replays import TURNS_MOST, Filter, History

_BATCH = 500


@dataclass(frozen=True, slots=True)
class Planned:
    """A turn to ask again."""

    job_id: str
    conversation_id: str
    model: str
    state: JobState


def plan(
    session: Session, account_id: str, *, job_id: str | None, conversation_id: str | None, wanted: Filter | None
) -> list[Planned]:
    """Oldest first, at most one more than may be; replays of earlier replays are left out, unless one is named."""
    rows = select(Turn.job_id, Turn.conversation_id, Job.model, Job.state).join(Job, Job.id == Turn.job_id)
    rows = rows.where(Job.account_id == account_id, Job.deleted_ms.is_(None))
    if job_id is not None:
        found = session.execute(rows.where(Turn.job_id == job_id))
    elif conversation_id is not None:
        mine = rows.where(Turn.conversation_id == conversation_id, Turn.replay.is_(False))
        found = session.execute(mine.order_by(Turn.job_id).limit(TURNS_MOST + 1))
    else:
        assert wanted is not None
        found = session.execute(_filtered(rows, wanted).order_by(Turn.job_id.desc()).limit(wanted.limit))
    return sorted((Planned(*row) for row in found), key=lambda turn: turn.job_id)


def _filtered(rows: Select[Any, Any, Any, Any], wanted: Filter) -> Select[Any, Any, Any, Any]:
    """Of those, what was answered; an eval asks its own questions."""
    rows = rows.where(Turn.replay.is_(False), Job.state == JobState.COMPLETED, Job.door != Door.EVAL)
    clauses = {
        "model": or_(Job.model == wanted.model, Job.card == wanted.model),
        "tag": Job.tag == wanted.tag,
        "created_after": Job.created_ms >= (wanted.created_after or 0) * 1000,
        "created_before": Job.created_ms < (wanted.created_before or 0) * 1000,
    }
    rows = rows.where(*(clause for name, clause in clauses.items() if getattr(wanted, name) is not None))
    return rows.where(*(tells(key, value) for key, value in wanted.metadata.items()))


def find(session: Session, account_id: str, replay_id: str) -> Batch | None:
    mine = (Batch.id == replay_id, Batch.account_id == account_id, Batch.kind == BatchKind.REPLAY)
    return session.scalar(select(Batch).where(*mine))


def rows_of(session: Session, batch: Batch) -> list[NewRow]:
    """The rows to begin with: all turns, or of a live conversation those that continue none."""
    turns = {row.job_id: row for row in _turns(session, batch.spec["turns"])}
    live = batch.spec["history"] == History.LIVE
    first = [turn for turn in turns.values() if not (live and turn.parent_job_id in turns)]
    # What belongs together is asked together: its prompts begin alike.
    order = {
        turn.job_id: place
        for place, turn in enumerate(sorted(first, key=lambda one: (one.conversation_id, one.job_id)))
    }
    numbers = _numbers(batch)
    return [
        _row(numbers[turn.job_id], turn, repeat, place=order[turn.job_id] * batch.spec["repeats"] + repeat)
        for turn in first
        for repeat in range(batch.spec["repeats"])
    ]


def requests(session: Session, batch: Batch, rows: Sequence[BatchRow]) -> dict[int, dict[str, Any]]:
    """The chat request of each row, by number; a row whose turn is deleted has none."""
    found = recorded(session, [row.source_job_id for row in rows])
    tree = transcripts.tree_above(session, [each.turn.prompt for each in found.values()])
    made = {}
    for row in rows:
        if (source := found.get(row.source_job_id or "")) is not None:
            made[row.number] = _request(batch.spec, source.job, _messages(batch, row, source.turn, tree))
    return made


def _messages(batch: Batch, row: BatchRow, turn: Turn, tree: Mapping[str, transcripts.Node]) -> list[dict[str, Any]]:
    if row.body:  # a live turn's, which no transcript has yet
        live: list[dict[str, Any]] = row.body["messages"]
        return live
    return with_system(transcripts.path(tree, turn.prompt), batch.spec["overrides"])


def request_of(session: Session, spec: Mapping[str, Any], job_id: str) -> dict[str, Any]:
    """What this turn of the plan will ask.  Raises NotFound when it was deleted meanwhile."""
    source = recorded(session, [job_id]).get(job_id)
    if source is None:
        raise NotFound("a turn of this was deleted meanwhile")
    messages = transcripts.path(transcripts.tree_above(session, [source.turn.prompt]), source.turn.prompt)
    return _request(spec, source.job, with_system(messages, spec["overrides"]))


def _request(spec: Mapping[str, Any], source: Job, messages: list[dict[str, Any]]) -> dict[str, Any]:
    overrides = {name: value for name, value in spec["overrides"].items() if name != "system"}
    return request_again(source.parameters or {}, messages, spec["target_model"] or source.model, overrides)


def following(
    session: Session, batch: Batch, row: BatchRow, answers: Sequence[Mapping[str, Any]], *, same: bool
) -> list[NewRow]:
    """The turns of a live conversation that come after this one; those that cannot be asked have failed, with all behind them.

    Each goes on from the choice that it went on from when it was recorded.  `same`: this turn was asked with the prompt it had then.
    """
    turns = {turn.job_id: turn for turn in _turns(session, batch.spec["turns"])}
    before = _before(session, row.job_id)
    numbers, repeat = _numbers(batch), (row.detail or {})["repeat"]
    source = row.source_job_id or ""
    said = transcripts.answers_of(session, [source])[source]
    rows: list[NewRow] = []
    for turn in _children(turns, source):
        choice, between = _continued(session, turn, said)
        answer = answers[choice] if choice < len(answers) else None
        added = goes_on(answer, between)
        if added is None:
            rows += [_row(numbers[each.job_id], each, repeat, error=_STOPPED) for each in _below(turns, turn)]
        else:
            body = {"messages": [*before, dict(answer or {}), *added]}
            kept = same and _is_said(answer, said, choice)
            rows.append(_row(numbers[turn.job_id], turn, repeat, body=body, same_history=kept))
    return rows


def _before(session: Session, job_id: str | None) -> list[dict[str, Any]]:
    """What stands before a turn's answer: its prompt, less a message that was begun, which the answer holds whole."""
    turn = session.get(Turn, job_id)
    if turn is None:
        return []
    prompt = transcripts.path(transcripts.tree_above(session, [turn.prompt]), turn.prompt)
    return prompt[:-1] if prompt and prompt[-1]["role"] == "assistant" else prompt


_STOPPED = {
    "kind": "Conflict",
    "message": "the live conversation could not go on to this turn: it has no answer, or other calls than were answered",
    "param": None,
    "code": "conversation_ended",
}


_Said = Sequence[tuple[Answer, Mapping[str, Any]]]


def _continued(session: Session, turn: Turn, said: _Said) -> tuple[int, list[dict[str, Any]]]:
    """From which choice of the answer before it a turn goes on, and what came between them."""
    choices = {answer.hash: answer.choice for answer, _ in reversed(said)}  # of two that are alike, the first
    tree = transcripts.tree_above(session, [turn.prompt])
    choice = next((choice for name, choice in choices.items() if name in tree), 0)
    return choice, transcripts.path(tree, turn.prompt, choices)


def _is_said(answer: Mapping[str, Any] | None, said: _Said, choice: int) -> bool:
    """Whether the choice is as it was recorded, to the letter, whatever the replay's mode overlooks."""
    recorded = [message for each, message in said if each.choice == choice]
    return first_difference(recorded, [answer or {}], Mode.EXACT) is None


def _children(turns: Mapping[str, Turn], parent: str | None) -> list[Turn]:
    return [turn for turn in turns.values() if turn.parent_job_id == parent]


def _below(turns: Mapping[str, Turn], top: Turn) -> list[Turn]:
    """It and all that follow it."""
    found = [top]
    for turn in found:
        found += _children(turns, turn.job_id)
    return found


def _numbers(batch: Batch) -> dict[str, int]:
    """The number of each turn's first row."""
    return {name: place * batch.spec["repeats"] for place, name in enumerate(batch.spec["turns"])}


def _row(
    number: int,
    turn: Turn,
    repeat: int,
    *,
    place: int | None = None,
    body: dict[str, Any] | None = None,
    error: dict[str, Any] | None = None,
    same_history: bool = True,
) -> NewRow:
    return NewRow(
        number=number + repeat,
        body=None if error else body or {},
        place=place,
        detail={"repeat": repeat, "same_history": same_history},
        source_job_id=turn.job_id,
        conversation_id=turn.conversation_id,
        error=error,
    )


@dataclass(frozen=True, slots=True)
class Recorded:
    turn: Turn
    job: Job


def recorded(session: Session, names: Iterable[str | None]) -> dict[str, Recorded]:
    """Those of the named turns that are not deleted; each with its job, but for the result."""
    turns = {turn.job_id: turn for turn in _turns(session, [name for name in names if name])}
    jobs = session.scalars(select(Job).where(Job.id.in_(turns), Job.deleted_ms.is_(None)).options(NO_RESULT))
    return {job.id: Recorded(turns[job.id], job) for job in jobs}


def _turns(session: Session, names: Sequence[str]) -> list[Turn]:
    found: list[Turn] = []
    for start in range(0, len(names), _BATCH):
        rows = select(Turn).where(Turn.job_id.in_(names[start : start + _BATCH])).order_by(Turn.job_id)
        found += session.scalars(rows)
    return found
