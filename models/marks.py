"""By what is a conversation found?  By its words, and by the models, tags and states of its turns: one mark each.

A mark is a keyed digest of what it stands for, so the table of marks tells nobody a word, and no account meets another's.  It is
a plain index, (mark, conversation), which both databases walk in the order of the pages, and from which a deleted word is gone at
once (docs/decisions/0013).  Recording a turn writes none: `sweep`, run by upkeep, marks the messages that came since the last time.

A word is a run of letters and digits, without regard to case and accents; scripts that write none between words are marked by pairs
of characters.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice, pairwise
from typing import Any, cast

from sqlalchemy import Executable, Table, delete, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, aliased

from models.tables.access import Account
from models.tables.jobs import Job
from models.tables.transcripts import Answer, Conversation, Mark, Message, Turn

SWEEP_MOST = 10
"""Turns a transaction, which on SQLite all others wait for: 100 ms where each brings 500 words that are new."""
WORDS_MOST = 10_000
"""Of one message; more are not marked."""
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Thai, Lao, Burmese, Khmer, Japanese, Chinese."""
_PAIR = re.compile(f"[{_UNSPACED}]{{2}}")
_RUN = re.compile(rf"([{_UNSPACED}]+)|[^\W_{_UNSPACED}]+")


def words(said: str) -> Iterator[str]:
    """As they are marked: folded, each as often as it stands there."""
    plain = said if said.isascii() else "".join(c for c in unicodedata.normalize("NFKD", said) if not _combines(c))
    for found in _RUN.finditer(plain.casefold()):
        yield from _pieces(found[0]) if found[1] else (found[0],)


def _combines(character: str) -> bool:
    return unicodedata.combining(character) != 0


def _pieces(run: str) -> Iterator[str]:
    """Pairs, and the single characters that a short query may be."""
    yield from run
    yield from map("".join, pairwise(run))


def asked_words(said: str) -> set[str]:
    """Those that a conversation must have; the pairs of an unspaced script say all that its single characters would."""
    found = set(words(said))
    paired = {character for word in found if len(word) > 1 and _PAIR.fullmatch(word) for character in word}
    return found - paired


@dataclass(frozen=True, slots=True)
class Marker:
    """Makes an account's marks."""

    account_id: str
    salt: bytes

    def of(self, kind: str, value: str) -> int:
        digest = hashlib.blake2b(f"{self.account_id}\0{kind}\0{value}".encode(), key=self.salt, digest_size=8)
        return int.from_bytes(digest.digest(), signed=True)

    def of_words(self, found: Iterable[str]) -> set[int]:
        return {self.of("word", word) for word in islice(found, WORDS_MOST)}

    def of_metadata(self, meta: Mapping[str, str]) -> set[int]:
        return {self.of("metadata", f"{key}\0{value}") for key, value in meta.items()}


def texts(message: Mapping[str, Any]) -> Iterator[str]:
    """What was said in it: text, and the calls of tools."""
    content = message.get("content")
    if isinstance(content, str):
        yield content
    elif content:
        yield from (part["text"] for part in content if part.get("type") == "text")
    for call in message.get("tool_calls") or ():
        yield f"{call['function']['name']} {call['function'].get('arguments') or ''}"


def mark_label(session: Session, marker: Marker, conversation: Conversation) -> None:
    """Its title and metadata, at once: who has just changed them looks for them."""
    _insert(session, conversation.id, _label(marker, conversation))


def unmark(session: Session, conversation_id: str) -> None:
    """It is found by nothing, until its turns, where it has any, are marked again."""
    session.execute(delete(Mark).where(Mark.conversation_id == conversation_id))
    session.execute(update(Turn).where(Turn.conversation_id == conversation_id).values(marked=False))


def sweep(session: Session) -> int:
    """Marks turns that came since the last time; how many.  Two that do it at once take different turns."""
    fresh = select(Turn.job_id, Conversation.account_id).join(Conversation, Conversation.id == Turn.conversation_id)
    rows = session.execute(fresh.where(_UNMARKED).order_by(Turn.job_id).limit(SWEEP_MOST)).all()
    if not rows:
        return 0
    markers = _markers(session, {row.account_id for row in rows})
    taken = select(Turn).where(Turn.job_id.in_([row.job_id for row in rows]), _UNMARKED)
    turns = session.scalars(taken.order_by(Turn.conversation_id, Turn.job_id).with_for_update(skip_locked=True)).all()
    for conversation_id, its in groupby(turns, key=lambda turn: turn.conversation_id):
        _mark_turns(session, session.get_one(Conversation, conversation_id), markers, list(its))
    return len(rows)


def _markers(session: Session, accounts: Iterable[str]) -> dict[str, Marker]:
    """Shared with all who record, against whoever deletes; before any turn is locked, as they do."""
    rows = select(Account.id, Account.salt).where(Account.id.in_(accounts)).order_by(Account.id)
    found = session.execute(rows.with_for_update(read=True, key_share=True))
    return {row.id: Marker(row.id, row.salt) for row in found}


def marker_of(session: Session, account_id: str) -> Marker:
    """Asked for before anything of the account is changed, since whoever deletes locks in that order."""
    return _markers(session, [account_id])[account_id]


def _mark_turns(
    session: Session, conversation: Conversation, markers: Mapping[str, Marker], turns: Sequence[Turn]
) -> None:
    marker, names = markers[conversation.account_id], [turn.job_id for turn in turns]
    there = select(Turn.job_id).where(Turn.conversation_id == conversation.id, Turn.marked).limit(1)
    if session.scalar(there) is None:  # all are to be marked, most likely again
        session.execute(delete(Mark).where(Mark.conversation_id == conversation.id))
    found = _label(marker, conversation)
    for turn in turns:
        for message in _brought(session, turn):
            found |= marker.of_words(word for said in texts(message) for word in words(said))
    for job in session.execute(select(Job.model, Job.tag, Job.state).where(Job.id.in_(names))):
        found |= {marker.of("model", job.model), marker.of("status", job.state)}
        found |= {marker.of("tag", job.tag)} if job.tag else set()
    _insert(session, conversation.id, found)
    session.execute(update(Turn).where(Turn.job_id.in_(names)).values(marked=True))


def _label(marker: Marker, conversation: Conversation) -> set[int]:
    return marker.of_words(words(conversation.title)) | marker.of_metadata(conversation.meta)


def _brought(session: Session, turn: Turn) -> Iterator[dict[str, Any]]:
    """The messages of a turn's path, its answers among them, that the turn before it in the conversation has not."""
    answers = session.scalars(select(Answer.hash).where(Answer.job_id == turn.job_id)).all()
    above = session.get(Turn, turn.parent_job_id) if turn.parent_job_id else None
    known: list[str] = []
    if above is not None and above.conversation_id == turn.conversation_id:
        known = [above.prompt, *session.scalars(select(Answer.hash).where(Answer.job_id == above.job_id))]
    walk = select(Message.hash, Message.parent).where(Message.hash == turn.prompt, Message.hash.not_in(known))
    steps = walk.cte("walk", recursive=True)
    up = aliased(Message)
    higher = select(up.hash, up.parent).join(steps, up.hash == steps.c.parent).where(up.hash.not_in(known))
    steps = steps.union_all(higher)
    yield from session.scalars(select(Message.content).join(steps, steps.c.hash == Message.hash))
    yield from session.scalars(select(Message.content).where(Message.hash.in_(answers)))


def _insert(session: Session, conversation_id: str, found: Iterable[int]) -> None:
    rows = [{"mark": mark, "conversation_id": conversation_id} for mark in sorted(found)]
    if rows:
        session.execute(_ADDED[session.get_bind().dialect.name], rows)


_UNMARKED = text("NOT turns.marked")  # word for word as in the index, or SQLite overlooks it
_MARKS = cast("Table", Mark.__table__)
_ADDED: dict[str, Executable] = {
    "postgresql": postgresql.insert(_MARKS).on_conflict_do_nothing(),
    "sqlite": sqlite.insert(_MARKS).on_conflict_do_nothing(),
}
