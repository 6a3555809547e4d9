"""Which conversation does a turn belong to, and what was said in it?

`record` adds to the tree only the messages it does not hold yet, so a conversation of n turns costs O(n).  Since a path is
always stored whole, the deepest message found tells that all above it are there.  Threading needs no id of the client's: a
prompt that contains an earlier turn's answer continues that turn.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Executable, Row, Table, bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, aliased

from models import conversations
from models.prefix import link, text_of
from models.tables.access import Account
from models.tables.jobs import NO_RESULT, Door, Job
from models.tables.transcripts import Answer, Conversation, Message, Turn

_BATCH = 500  # bound variables a statement; SQLite's default limit is 32,766, Postgres plans short lists better


@dataclass(frozen=True, slots=True)
class Spoken:
    """One choice of an answer, as the next turn would send it back."""

    message: dict[str, Any]
    finish_reason: str


JOB_FACTS = (
    "id",
    "account_id",
    "messages",
    "chain",
    "meta",
    "created_ms",
    "conversation_id",
    "conversation_name",
    "source_job_id",
    "door",
)
"""What `record` reads of a job's row."""


def record(session: Session, job: Row[Any], answers: Sequence[Spoken], now_ms: int) -> str:
    """The turn that `job` was, inside the transaction that ends it; the id of its conversation."""
    above, answers = _placed(job, answers)
    salt: bytes = session.scalars(_SALT, {"account_id": job.account_id}).one()
    hashes = [link(salt, job.chain[above - 1], each.message) for each in answers]
    spoken = [
        _message(job, name, job.chain[above - 1], above, each.message, now_ms)
        for name, each in zip(hashes, answers, strict=True)
    ]
    _insert_new(session, [*_prompt(session, job, now_ms), *spoken])
    parent = _parent(session, job)
    conversation_id = conversations.joined(session, job, parent.conversation_id if parent else None, now_ms)
    turn = {
        "job_id": job.id,
        "conversation_id": conversation_id,
        "prompt": job.chain[-1],
        "parent_job_id": job.source_job_id or (parent.job_id if parent else None),
        "replay": job.door is Door.REPLAY,
        "marked": False,
        "created_ms": job.created_ms,
    }
    session.execute(_TURNS.insert(), [turn])
    if hashes:
        session.execute(_ANSWERS.insert(), [_answer(job, n, hashes[n], answers[n]) for n in range(len(hashes))])
    return conversation_id


def _placed(job: Row[Any], answers: Sequence[Spoken]) -> tuple[int, list[Spoken]]:
    """How many messages of the prompt stand above the answers, and these: whole, in the place of a message they continue."""
    last = job.messages[-1]
    if last["role"] != "assistant" or len(job.chain) == 1:
        return len(job.chain), list(answers)
    begun = text_of(last.get("content")) or ""
    whole = [
        Spoken(each.message | {"content": begun + (each.message.get("content") or "")}, each.finish_reason)
        for each in answers
    ]
    return len(job.chain) - 1, whole


@dataclass(frozen=True, slots=True)
class Node:
    """A message in its place."""

    hash: str
    parent: str | None
    message: dict[str, Any]


def tree_above(session: Session, tips: Sequence[str]) -> dict[str, Node]:
    """Every message on the paths down to `tips`, each once, by hash."""
    walk = select(Message.hash, Message.parent).where(Message.hash.in_(tips)).cte("walk", recursive=True)
    above = aliased(Message)
    walk = walk.union(select(above.hash, above.parent).join(walk, above.hash == walk.c.parent))
    rows = select(Message.hash, Message.parent, Message.content).join(walk, walk.c.hash == Message.hash)
    return {row.hash: Node(*row) for row in session.execute(rows)}


def path(tree: Mapping[str, Node], tip: str, stop: Collection[str] = ()) -> list[dict[str, Any]]:
    """The messages down to `tip`, from the first, or from behind the nearest in `stop`."""
    found: list[dict[str, Any]] = []
    here: str | None = tip
    while here is not None and here not in stop:
        node = tree[here]
        found.append(node.message)
        here = node.parent
    return found[::-1]


def turns(session: Session, conversation_id: str) -> list[tuple[Turn, Job]]:
    """In the order they were made, each with its job, but for the result: the tree has what was said."""
    rows = select(Turn, Job).join(Job, Job.id == Turn.job_id).options(NO_RESULT)
    rows = rows.where(Turn.conversation_id == conversation_id).order_by(Turn.job_id)
    return [(row.Turn, row.Job) for row in session.execute(rows)]


def answers_of(session: Session, job_ids: Sequence[str]) -> dict[str, list[tuple[Answer, dict[str, Any]]]]:
    """The choices of each job, in order, with their messages."""
    rows = select(Answer, Message.content).join(Message, Message.hash == Answer.hash)
    rows = rows.where(Answer.job_id.in_(job_ids)).order_by(Answer.job_id, Answer.choice)
    found: dict[str, list[tuple[Answer, dict[str, Any]]]] = {job_id: [] for job_id in job_ids}
    for answer, content in session.execute(rows):
        found[answer.job_id].append((answer, content))
    return found


@dataclass(frozen=True, slots=True)
class _Parent:
    job_id: str
    conversation_id: str


def _parent(session: Session, job: Row[Any]) -> _Parent | None:
    """The turn whose answer lies deepest on this path; of several, one that was no replay, and the latest."""
    said = {job.chain[n]: n for n, message in enumerate(job.messages) if message["role"] == "assistant"}
    best: tuple[int, bool, str, str] | None = None
    for names in _batches(list(said)):
        for row in session.execute(_ANSWERED, {"hashes": names}):
            if row.account_id != job.account_id:
                continue  # accounts may be given one salt, and then have hashes in common
            candidate = (said[row.hash], not row.replay, row.job_id, row.conversation_id)
            best = candidate if best is None else max(best, candidate)
    return None if best is None else _Parent(best[2], best[3])


def _prompt(session: Session, job: Row[Any], now_ms: int) -> list[dict[str, Any]]:
    """The rows of those prompt messages that the tree does not hold."""
    return [
        _message(job, job.chain[depth], job.chain[depth - 1] if depth else None, depth, job.messages[depth], now_ms)
        for depth in range(_held(session, job.chain), len(job.chain))
    ]


def _message(
    job: Row[Any], name: str, parent: str | None, depth: int, message: dict[str, Any], now_ms: int
) -> dict[str, Any]:
    place = {"hash": name, "account_id": job.account_id, "parent": parent, "depth": depth}
    return place | {"role": message["role"], "content": message, "created_ms": now_ms}


def _answer(job: Row[Any], choice: int, name: str, spoken: Spoken) -> dict[str, Any]:
    return {"job_id": job.id, "choice": choice, "hash": name, "finish_reason": spoken.finish_reason[:20]}


def _held(session: Session, chain: Sequence[str]) -> int:
    """How many of the path's messages the tree holds: the deepest found, and so all above it."""
    for names in reversed(_batches(chain)):
        deepest = session.scalar(_DEEPEST, {"hashes": names})
        if deepest is not None:
            return int(deepest) + 1
    return 0


def _insert_new(session: Session, rows: list[dict[str, Any]]) -> None:
    """Two turns that end together may bring the same message, and two choices may be alike: the second finds it there."""
    if rows:
        session.execute(_ADDED[session.get_bind().dialect.name], rows)


def _batches(names: Sequence[str]) -> list[Sequence[str]]:
    return [names[start : start + _BATCH] for start in range(0, len(names), _BATCH)]


# Built once, and round the ORM: recording a turn is part of every job's last transaction.
_MESSAGES, _TURNS = cast("Table", Message.__table__), cast("Table", Turn.__table__)
_ANSWERS, _CONVERSATIONS = cast("Table", Answer.__table__), cast("Table", Conversation.__table__)
_ACCOUNTS = cast("Table", Account.__table__)
_ADDED: dict[str, Executable] = {
    "postgresql": postgresql.insert(_MESSAGES).on_conflict_do_nothing(),
    "sqlite": sqlite.insert(_MESSAGES).on_conflict_do_nothing(),
}
_DEEPEST = select(func.max(_MESSAGES.c.depth)).where(_MESSAGES.c.hash.in_(bindparam("hashes", expanding=True)))
# Shared by all who record; keeps `models.deletions` from pruning the messages this turn is about to stand on.
_SALT = (
    select(_ACCOUNTS.c.salt).where(_ACCOUNTS.c.id == bindparam("account_id")).with_for_update(read=True, key_share=True)
)
# The owner is told, not asked for: SQLite would rather go through all conversations of the account than by the hashes.
_ANSWERED = (
    select(_ANSWERS.c.hash, _ANSWERS.c.job_id, _TURNS.c.conversation_id, _TURNS.c.replay, _CONVERSATIONS.c.account_id)
    .join(_TURNS, _TURNS.c.job_id == _ANSWERS.c.job_id)
    .join(_CONVERSATIONS, _CONVERSATIONS.c.id == _TURNS.c.conversation_id)
    .where(_ANSWERS.c.hash.in_(bindparam("hashes", expanding=True)))
)
