"""Which conversation does a turn belong to, and what was said in it?

`record` adds to the tree only the messages it does not hold yet, so a conversation of n turns costs O(n).  Since a path is
always stored whole, the deepest message found tells that all above it are there.  Threading needs no id of the client's: a
prompt that contains an earlier turn's answer continues that turn.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, aliased

from models import ids
from models.prefix import link, text_of
from models.tables.access import Account
from models.tables.jobs import Job
from models.tables.transcripts import Answer, Conversation, Message, Turn

TITLE_CHARACTERS = 80
_BATCH = 500  # bound variables a statement; SQLite's default limit is 32,766, Postgres plans short lists better


@dataclass(frozen=True, slots=True)
class Spoken:
    """One choice of an answer, as the next turn would send it back."""

    message: dict[str, Any]
    finish_reason: str


def record(session: Session, job: Job, answers: Sequence[Spoken], now_ms: int) -> None:
    """The turn that `job` was; called inside the transaction that ends it."""
    assert job.messages is not None and job.chain is not None  # noqa: PT018
    _add_messages(session, job.account_id, job.messages, job.chain, now_ms)
    parent = _parent(session, job.chain)
    conversation = _conversation(session, job, parent, now_ms)
    turn = {
        "job_id": job.id,
        "conversation_id": conversation,
        "prompt": job.chain[-1],
        "parent_job_id": job.source_job_id or (parent.job_id if parent else None),
        "replay": job.replay_id is not None,
        "created_ms": job.created_ms,
    }
    session.execute(insert(Turn), [turn])
    session.execute(update(Job).where(Job.id == job.id).values(conversation_id=conversation))
    _add_answers(session, job, answers, now_ms)


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


def conversation(session: Session, account_id: str, conversation_id: str) -> Conversation | None:
    mine = select(Conversation).where(Conversation.id == conversation_id, Conversation.account_id == account_id)
    return session.scalar(mine)


def turns(session: Session, conversation_id: str) -> list[tuple[Turn, Job]]:
    """In the order they were made, each with its job."""
    rows = select(Turn, Job).join(Job, Job.id == Turn.job_id)
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


def _parent(session: Session, chain: Sequence[str]) -> _Parent | None:
    """The turn whose answer lies deepest on this path; of several, one that was no replay, and the latest."""
    depth = {name: number for number, name in enumerate(chain)}
    best: tuple[int, bool, str, str] | None = None
    for start in range(0, len(chain), _BATCH):
        rows = select(Answer.hash, Answer.job_id, Turn.conversation_id, Turn.replay)
        rows = rows.join(Turn, Turn.job_id == Answer.job_id)
        for row in session.execute(rows.where(Answer.hash.in_(chain[start : start + _BATCH]))):
            candidate = (depth[row.hash], not row.replay, row.job_id, row.conversation_id)
            best = candidate if best is None else max(best, candidate)
    return None if best is None else _Parent(best[2], best[3])


def _conversation(session: Session, job: Job, parent: _Parent | None, now_ms: int) -> str:
    name = job.conversation_id or (parent.conversation_id if parent else None)
    if name is not None:
        touched = update(Conversation).where(Conversation.id == name, Conversation.account_id == job.account_id)
        session.execute(touched.values(updated_ms=now_ms))
        return name
    name = ids.new("conv")
    row = {"id": name, "account_id": job.account_id, "title": _title(job.messages or []), "meta": job.meta}
    session.execute(insert(Conversation), [row | {"created_ms": job.created_ms, "updated_ms": now_ms}])
    return name


def _title(messages: Sequence[dict[str, Any]]) -> str:
    asked = next((text_of(message.get("content")) for message in messages if message["role"] == "user"), "")
    text = " ".join(asked.split()) if isinstance(asked, str) else "(image)"
    return text if len(text) <= TITLE_CHARACTERS else text[: TITLE_CHARACTERS - 1] + "…"


def _add_messages(
    session: Session, account_id: str, messages: Sequence[dict[str, Any]], chain: Sequence[str], now_ms: int
) -> None:
    held = _held(session, chain)
    rows = [
        {
            "hash": chain[depth],
            "account_id": account_id,
            "parent": chain[depth - 1] if depth else None,
            "depth": depth,
            "role": messages[depth]["role"],
            "content": messages[depth],
            "created_ms": now_ms,
        }
        for depth in range(held, len(chain))
    ]
    if rows:
        _insert_new(session, rows)


def _held(session: Session, chain: Sequence[str]) -> int:
    """How many of the path's messages the tree holds: the deepest found, and so all above it."""
    for stop in range(len(chain), 0, -_BATCH):
        part = chain[max(0, stop - _BATCH) : stop]
        deepest = session.scalar(_deepest(part))
        if deepest is not None:
            return deepest + 1
    return 0


def _deepest(hashes: Sequence[str]) -> Select[int]:
    return select(Message.depth).where(Message.hash.in_(hashes)).order_by(Message.depth.desc()).limit(1)


def _insert_new(session: Session, rows: list[dict[str, Any]]) -> None:
    """Two turns that end together may bring the same message: the second finds it there."""
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    session.execute(dialect.insert(Message).on_conflict_do_nothing(), rows)


def _add_answers(session: Session, job: Job, answers: Sequence[Spoken], now_ms: int) -> None:
    if not answers or job.chain is None:
        return
    salt = session.scalars(select(Account.salt).where(Account.id == job.account_id)).one()
    tip, depth = job.chain[-1], len(job.chain)
    hashes = [link(salt, tip, spoken.message) for spoken in answers]
    message = {"account_id": job.account_id, "parent": tip, "depth": depth, "role": "assistant", "created_ms": now_ms}
    _insert_new(
        session,
        [message | {"hash": name, "content": spoken.message} for name, spoken in zip(hashes, answers, strict=True)],
    )
    rows = [
        {"job_id": job.id, "choice": choice, "hash": name, "finish_reason": answers[choice].finish_reason}
        for choice, name in enumerate(hashes)
    ]
    session.execute(insert(Answer), rows)
