"""What stands in an export?  The branches of the conversations that were looked for, in their order, a page at a time.

One record a branch, the oldest conversation first.  What only a replay has said is left out unless it is asked for.  A page holds
whole conversations; nothing else is held.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from sqlalchemy.orm import Session

from models.branches import told
from models.listings import Window
from models.marks import Marker
from models.searches import Wanted, found
from models.tables.transcripts import Conversation
from models.wire.exported import openai_record, replayed_only

PAGE = 8
"""Conversations that are in memory at once."""


def records(
    session: Session, marker: Marker, wanted: Wanted, after: str | None, *, replays: bool
) -> tuple[list[dict[str, Any]], str | None]:
    """Those of the conversations behind `after`, and the last of these; None: there are no more."""
    by_creation = replace(wanted, by_update=False)
    page = found(session, marker, by_creation, Window(after, PAGE, ascending=True))
    rows = [record for conversation in page.rows for record in _of(session, conversation, replays=replays)]
    return rows, page.rows[-1].id if page.has_more else None


def _of(session: Session, conversation: Conversation, *, replays: bool) -> Iterator[dict[str, Any]]:
    whole = told(session, conversation.id)
    for leaf in whole.leaves:
        if replays or not replayed_only(leaf):
            yield openai_record(conversation, whole, leaf)
