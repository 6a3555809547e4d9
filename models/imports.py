"""How does a record of a file become part of a conversation?  As the turns that would have said it, had they been asked here.

Each answer in it is a turn of its own, with a job that has ended, was never queued and is in no books; `replay` can ask it again.  A
record brings nothing twice: what its conversation has heard already stays as it is.  One of our own exports goes back into the
conversation it came from, or makes it anew under its id; any other is a new conversation, unless the account holds its last words.

One record is one step: whoever commits it has all of it or none.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, cast

from sqlalchemy import Table, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from models import ids
from models.cards.card import resolve
from models.conversations import title_of
from models.lifecycle import JobState
from models.prefix import chain
from models.tables.access import Account
from models.tables.jobs import Door, Job
from models.tables.transcripts import Answer, Conversation, Message, Turn
from models.wire.imported import ImportedTurn, Parsed, Usage, parameters_of

QUEUE = "import"
"""No worker listens to it."""


@dataclass(slots=True)
class Brought:
    """How many were new; a record of which nothing was new is `held`."""

    conversations: int = 0
    turns: int = 0
    messages: int = 0
    held: int = 0


@dataclass(frozen=True, slots=True)
class Importing:
    session: Session
    account_id: str
    salt: bytes
    model: str
    """Of turns that do not say which model answered them."""
    now_ms: int
    brought: Brought

    def bring(self, record: Parsed) -> None:
        names = chain(self.salt, record.messages)
        conversation_id = self._conversation(record, names)
        known = self._heard(conversation_id, names)
        missing = [turn for turn in self._turns(record) if _tip(turn, names) not in known]
        if not missing:
            self.brought.held += 1
            return
        self._grow(record, names)
        last = None
        for turn in missing:
            last = self._record_turn(record, names, turn, conversation_id, last)

    def _conversation(self, record: Parsed, names: Sequence[str]) -> str:
        if record.provenance is None:
            return self._holding(names[-1]) or self._new(record, ids.new("conv", self.now_ms))
        told = record.provenance.conversation
        row = self.session.get(Conversation, told.id)
        if row is not None and row.account_id == self.account_id:
            return told.id
        # An id that is another's: always the same other one for this account, so that the file can come again.
        own = told.id if row is None else ids.derived("conv", told.created_ms, self._digest(told.id))
        return own if self.session.get(Conversation, own) else self._new(record, own)

    def _holding(self, tip: str) -> str | None:
        """Of the account's conversations the first that ends, or once ended, with this very path."""
        rows = select(Turn.conversation_id).outerjoin(Answer, Answer.job_id == Turn.job_id)
        rows = rows.join(Conversation, Conversation.id == Turn.conversation_id)
        rows = rows.where(Conversation.account_id == self.account_id)
        said = self.session.scalar(rows.where(Answer.hash == tip).order_by(Turn.job_id).limit(1))
        return said or self.session.scalar(rows.where(Turn.prompt == tip, Answer.hash.is_(None)).limit(1))

    def _new(self, record: Parsed, name: str) -> str:
        row: dict[str, Any] = {"id": name, "account_id": self.account_id, "name": None, "meta": record.metadata}
        row |= {"title": title_of(record.messages), "created_ms": self.now_ms, "updated_ms": self.now_ms}
        if record.provenance is not None:
            told = record.provenance.conversation
            row |= {column: getattr(told, column) for column in ("title", "created_ms", "updated_ms")}
            row["name"] = told.name if told.name and not self._taken(told.name) else None
        self.session.execute(_CONVERSATIONS.insert(), [row])
        self.brought.conversations += 1
        return name

    def _taken(self, name: str) -> bool:
        mine = select(Conversation.id).where(Conversation.account_id == self.account_id, Conversation.name == name)
        return self.session.scalar(mine) is not None

    def _heard(self, conversation_id: str, names: Sequence[str]) -> set[str]:
        """What of the path turns of the conversation have said, or been asked without an answer."""
        mine = select(Answer.hash).join(Turn, Turn.job_id == Answer.job_id)
        mine = mine.where(Turn.conversation_id == conversation_id, Answer.hash.in_(names))
        asked = select(Turn.prompt).where(Turn.conversation_id == conversation_id, Turn.prompt == names[-1])
        return {*self.session.scalars(mine), *self.session.scalars(asked)}

    def _turns(self, record: Parsed) -> list[ImportedTurn]:
        if record.provenance is not None:
            return sorted(record.provenance.turns, key=lambda turn: turn.message)
        last = len(record.messages) - 1
        spoken = [n for n, message in enumerate(record.messages) if n and message["role"] == "assistant"]
        places = spoken if spoken and spoken[-1] == last else [*spoken, last]
        begin = self.now_ms - len(places)  # a millisecond apart, so that their ids tell their order
        return [self._bare(record, place, begin + number) for number, place in enumerate(places)]

    def _bare(self, record: Parsed, place: int, created_ms: int) -> ImportedTurn:
        """Of a data set, which knows no more of it."""
        message = record.messages[place]
        said = place > 0 and message["role"] == "assistant"
        reason = "tool_calls" if message.get("tool_calls") else "stop"
        return ImportedTurn(
            message=place,
            model=self.model,
            created_ms=created_ms,
            finish_reason=reason if said else None,
            state=JobState.COMPLETED if said else JobState.CANCELLED,
            parameters={"service_tier": "default"},
            usage=Usage(),
        )

    def _grow(self, record: Parsed, names: Sequence[str]) -> None:
        rows = [
            {
                "hash": name,
                "account_id": self.account_id,
                "parent": names[depth - 1] if depth else None,
                "depth": depth,
                "role": message["role"],
                "content": message,
                "created_ms": self.now_ms,
            }
            for depth, (name, message) in enumerate(zip(names, record.messages, strict=True))
        ]
        there = set(self.session.scalars(select(Message.hash).where(Message.hash.in_(names))))
        new = [row for row in rows if row["hash"] not in there]
        if new:
            self._insert(_MESSAGES, new)
        self.brought.messages += len(new)

    def _record_turn(
        self, record: Parsed, names: Sequence[str], turn: ImportedTurn, conversation_id: str, last: str | None
    ) -> str:
        prompt = names[turn.message - 1] if turn.finish_reason is not None else names[turn.message]
        facts = f"{conversation_id}\0{prompt}\0{turn.model}\0{turn.created_ms}\0{turn.replay}"
        job_id = self._free(facts, turn)
        self._insert(_JOBS, [self._job(record, turn, job_id, conversation_id)])
        above = last or self._above(conversation_id, names, turn)
        row = {"job_id": job_id, "conversation_id": conversation_id, "prompt": prompt, "parent_job_id": above}
        self._insert(_TURNS, [row | {"replay": turn.replay, "marked": False, "created_ms": turn.created_ms}])
        if turn.finish_reason is not None:
            answer = {"job_id": job_id, "choice": turn.choice, "hash": names[turn.message]}
            self._insert(_ANSWERS, [answer | {"finish_reason": turn.finish_reason}])
        self.brought.turns += 1
        return job_id

    def _free(self, facts: str, turn: ImportedTurn) -> str:
        """Choices of one answer are of one job; the same choice of another, which was asked in the same millisecond, is not."""
        for again in count():
            job_id = ids.derived("job", turn.created_ms, self._digest(f"{facts}\0{again}"))
            if self.session.get(Answer, (job_id, turn.choice)) is None:
                return job_id
        raise AssertionError("digests do not end")

    def _above(self, conversation_id: str, names: Sequence[str], turn: ImportedTurn) -> str | None:
        """The turn that it continues, where that was there before it."""
        rows = select(Turn.job_id).join(Answer, Answer.job_id == Turn.job_id).join(Message, Message.hash == Answer.hash)
        rows = rows.where(Turn.conversation_id == conversation_id, Answer.hash.in_(names[: turn.message]))
        return self.session.scalar(rows.order_by(Message.depth.desc(), Turn.replay, Turn.job_id.desc()).limit(1))

    def _job(self, record: Parsed, turn: ImportedTurn, job_id: str, conversation_id: str) -> dict[str, Any]:
        columns = ("model", "state", "created_ms", "started_ms", "first_token_ms", "ended_ms", "tag")
        row = {name: getattr(turn, name) for name in columns}
        row |= {"id": job_id, "account_id": self.account_id, "door": Door.IMPORT, "card": _card(turn.model)}
        row |= {"queue": QUEUE, "attempt": 1, "store": True, "meta": turn.metadata, "conversation_id": conversation_id}
        return row | turn.usage.model_dump() | {"parameters": parameters_of(turn, record.tools)}

    def _digest(self, text: str) -> bytes:
        return hashlib.blake2b(f"{self.account_id}\0{text}".encode(), key=self.salt, digest_size=10).digest()

    def _insert(self, table: Table, rows: list[dict[str, Any]]) -> None:
        """What is there already stays as it is."""
        dialect = postgresql if self.session.get_bind().dialect.name == "postgresql" else sqlite
        self.session.execute(dialect.insert(table).on_conflict_do_nothing(), rows)


def bring_all(session: Session, account_id: str, records: Sequence[Parsed], model: str, now_ms: int) -> Brought:
    """Raises nothing for a record that was parsed; the same records again bring nothing."""
    # Alone with those who import and delete; turns may go on being recorded.
    alone = select(Account.salt).where(Account.id == account_id).with_for_update(key_share=True)
    importing = Importing(session, account_id, session.scalars(alone).one(), model, now_ms, Brought())
    for record in records:
        importing.bring(record)
    return importing.brought


def _card(model: str) -> str:
    """What the name means here; a stranger's model is called what the file calls it."""
    card = resolve(model)
    return model[:100] if card is None else card.id


def _tip(turn: ImportedTurn, names: Sequence[str]) -> str:
    return names[turn.message]


_MESSAGES, _TURNS = cast("Table", Message.__table__), cast("Table", Turn.__table__)
_ANSWERS, _CONVERSATIONS = cast("Table", Answer.__table__), cast("Table", Conversation.__table__)
_JOBS = cast("Table", Job.__table__)
