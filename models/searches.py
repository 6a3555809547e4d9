"""Which conversations does somebody look for?  A page of those that have all that was asked for, at the cost of a page.

By time it is an index range.  By anything else it is the range of one mark, that of the rarest thing asked for, of whose rows each is
looked up under the others.  Ordered by creation; by the last turn where that is asked for, or a time of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Select, func, literal, select, tuple_, union_all
from sqlalchemy.orm import Session, aliased

from models import ids
from models.errors import InvalidRequest
from models.listings import Page, Window
from models.marks import Marker, asked_words
from models.tables.transcripts import Conversation, Mark

WORDS_MOST = 20
_FEW = 1_000
"""So many rows can be sorted for a page; of what is marked more often, some stand near the begin of any order."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Times are Unix milliseconds; `after` is at that time or later, `before` is earlier."""

    name: str | None = None
    text: str | None = None
    model: str | None = None
    tag: str | None = None
    status: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    created_after_ms: int | None = None
    created_before_ms: int | None = None
    updated_after_ms: int | None = None
    updated_before_ms: int | None = None
    by_update: bool | None = None
    """None: where a time of update is asked for."""

    def marks(self, marker: Marker) -> set[int]:
        """Raises InvalidRequest for more words than a search is made of."""
        sought = asked_words(self.text or "")
        if len(sought) > WORDS_MOST:
            raise InvalidRequest(f"text: at most {WORDS_MOST} words are looked for", param="text")
        facets = {"model": self.model, "tag": self.tag, "status": self.status}
        found = {marker.of(kind, value) for kind, value in facets.items() if value is not None}
        return found | marker.of_words(sought) | marker.of_metadata(self.metadata)

    @property
    def ordered_by_update(self) -> bool:
        implied = (self.updated_after_ms, self.updated_before_ms) != (None, None)
        return implied if self.by_update is None else self.by_update


def found(session: Session, marker: Marker, wanted: Wanted, window: Window) -> Page[Conversation]:
    sought = wanted.marks(marker)
    if wanted.text is not None and not asked_words(wanted.text):
        return Page([], has_more=False)  # nothing in it is a word
    marks = _rarest_first(session, sought)
    query = _by_update if wanted.ordered_by_update else _by_creation
    rows: Sequence[Any] = session.scalars(query(session, marker, wanted, window, marks).limit(window.limit + 1)).all()
    mine = [row for row in rows[: window.limit] if row.account_id == marker.account_id]  # two digests might be one
    return Page(mine, has_more=len(rows) > window.limit)


def _by_creation(
    session: Session,
    marker: Marker,
    wanted: Wanted,
    window: Window,
    marks: Sequence[tuple[int, int]],
) -> Select[Any]:
    place: Any = Mark.conversation_id if marks else Conversation.id
    rows = select(Conversation)
    if marks:
        rows = rows.select_from(Mark).join(Conversation, Conversation.id == Mark.conversation_id)
        rows = rows.where(Mark.mark == marks[0][0], *_marked(Mark.conversation_id, marks[1:]))
    else:
        rows = rows.where(Conversation.account_id == marker.account_id)
    rows = rows.where(*_created(place, wanted), *_fields(session, marker, wanted))
    if window.after is not None:
        rows = rows.where(place > window.after if window.ascending else place < window.after)
    return rows.order_by(place if window.ascending else place.desc())


def _by_update(
    session: Session, marker: Marker, wanted: Wanted, window: Window, marks: Sequence[tuple[int, int]]
) -> Select[Any]:
    place = (Conversation.updated_ms, Conversation.id)
    few = bool(marks) and marks[0][1] < _FEW
    rows = select(Conversation)
    if few:
        rows = rows.join(Mark, Mark.conversation_id == Conversation.id).where(Mark.mark == marks[0][0])
    else:
        rows = rows.where(Conversation.account_id == marker.account_id)
    rows = rows.where(*_marked(Conversation.id, marks[1:] if few else marks), *_created(Conversation.id, wanted))
    rows = rows.where(*_updated(wanted), *_fields(session, marker, wanted))
    if window.after is not None:
        last = session.scalar(select(Conversation.updated_ms).where(Conversation.id == window.after))
        border = tuple_(literal(0 if last is None else last), literal(window.after))
        rows = rows.where(tuple_(*place) > border if window.ascending else tuple_(*place) < border)
    return rows.order_by(*(place if window.ascending else (each.desc() for each in place)))


def _marked(conversation_id: Any, marks: Sequence[tuple[int, int]]) -> list[ColumnElement[bool]]:
    other = aliased(Mark)
    looked_up = select(literal(1)).where(other.conversation_id == conversation_id).correlate_except(other)
    return [looked_up.where(other.mark == mark).exists() for mark, _ in marks]


def _created(place: Any, wanted: Wanted) -> list[ColumnElement[bool]]:
    """A conversation's id tells when it was made, so a time is a place in the index."""
    found = []
    if wanted.created_after_ms is not None:
        found.append(place >= ids.earliest("conv", wanted.created_after_ms))
    if wanted.created_before_ms is not None:
        found.append(place < ids.earliest("conv", wanted.created_before_ms))
    return found


def _updated(wanted: Wanted) -> list[ColumnElement[bool]]:
    found = []
    if wanted.updated_after_ms is not None:
        found.append(Conversation.updated_ms >= wanted.updated_after_ms)
    if wanted.updated_before_ms is not None:
        found.append(Conversation.updated_ms < wanted.updated_before_ms)
    return found


def _fields(session: Session, marker: Marker, wanted: Wanted) -> list[ColumnElement[bool]]:
    """A name is one conversation's; found first, so that no database goes by anything else."""
    if wanted.name is None:
        return []
    mine = select(Conversation.id).where(Conversation.account_id == marker.account_id, Conversation.name == wanted.name)
    return [Conversation.id == session.scalar(mine)]


def _rarest_first(session: Session, marks: set[int]) -> list[tuple[int, int]]:
    """Each with the number of its conversations, counted up to a few: what is rare leads to the page soonest."""
    if not marks:
        return []
    counts = [
        select(literal(mark), select(func.count()).select_from(_some(mark)).scalar_subquery()) for mark in sorted(marks)
    ]
    return sorted((tuple(row) for row in session.execute(union_all(*counts))), key=lambda pair: pair[1])


def _some(mark: int) -> Any:
    return select(Mark.conversation_id).where(Mark.mark == mark).limit(_FEW).subquery()
