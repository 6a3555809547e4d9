"""What may happen to a file: begun, stored, read, deleted, swept.  Verbs take a session and never commit.

Relies on its caller to move the bytes: between `begin` and `store` they are put under `object_key`, between `take_due` and `forget` they
are deleted there.  Whoever dies in between leaves a row that comes due.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy import delete as sql_delete
from sqlalchemy.orm import Session

from models import ids
from models.errors import Conflict
from models.insertion import insert_once
from models.tables.files import File, FileState

UPLOAD_MS = 3_600_000
"""An upload that has not ended by then is given up; twice what a client is given for it."""
BATCH_KEPT_S = 30 * 86_400
"""What OpenAI keeps a batch's files for, where nobody says."""
SWEPT_MOST = 100


class Purpose(StrEnum):
    ASSISTANTS = "assistants"
    BATCH = "batch"
    BATCH_OUTPUT = "batch_output"
    EVALS = "evals"
    FINE_TUNE = "fine-tune"
    USER_DATA = "user_data"
    VISION = "vision"


UPLOADED = frozenset(Purpose) - {Purpose.BATCH_OUTPUT}
"""What callers may bring: as with OpenAI, of which this service reads batches and evals itself."""


@dataclass(frozen=True, slots=True)
class NewFile:
    id: str
    filename: str
    purpose: Purpose
    bytes: int
    expires_ms: int | None


def new_id(now_ms: int | None = None) -> str:
    return f"file-{ids.suffix(now_ms)}"


def object_key(account_id: str, file_id: str) -> str:
    """Where its bytes lie."""
    return f"files/{account_id}/{file_id}"


def begin(session: Session, file_id: str, account_id: str, now_ms: int) -> None:
    """Its bytes may come.  What else is told of it is known when they have."""
    facts = {"id": file_id, "account_id": account_id, "filename": "", "purpose": "", "bytes": 0, "created_ms": now_ms}
    insert_once(session, File, [facts | {"state": FileState.UPLOADING, "due_ms": now_ms + UPLOAD_MS}])


def begin_again(session: Session, file_id: str, account_id: str, now_ms: int) -> bool:
    """For a file that is made here, under an id that was told before; False: it is stored, by whoever began it first.

    Once more while its bytes are on their way, it has as long again.  Raises Conflict while what was given up is being taken away.
    """
    state = session.scalar(select(File.state).where(File.id == file_id).with_for_update())
    if state is FileState.DELETED:
        raise Conflict(f"the file {file_id} was given up, and its bytes are still to go")
    if state is None:
        begin(session, file_id, account_id, now_ms)
    elif state is FileState.UPLOADING:
        session.execute(update(File).where(File.id == file_id).values(due_ms=now_ms + UPLOAD_MS))
    return state is not FileState.STORED


def store(session: Session, new: NewFile) -> bool:
    """All its bytes are there, from now on or already; False when it was given up meanwhile."""
    facts = {name: getattr(new, name) for name in ("filename", "purpose", "bytes", "expires_ms")}
    step = update(File).where(File.id == new.id, File.state == FileState.UPLOADING)
    step = step.values(facts | {"state": FileState.STORED, "due_ms": new.expires_ms})
    if session.scalar(step.returning(File.id)) is not None:
        return True
    return session.scalar(select(File.state).where(File.id == new.id)) is FileState.STORED


def shown(now_ms: int) -> tuple[ColumnElement[bool], ...]:
    """What holds for files that are there for their owner: one that has expired is not, though upkeep has not come by."""
    return File.state == FileState.STORED, or_(File.expires_ms.is_(None), File.expires_ms > now_ms)


def find(session: Session, account_id: str, file_id: str, now_ms: int) -> File | None:
    mine = (File.id == file_id, File.account_id == account_id, *shown(now_ms))
    return session.scalar(select(File).where(*mine))


def delete(session: Session, account_id: str, file_id: str, now_ms: int) -> bool:
    """It is gone for its owner at once, and its bytes when upkeep comes by."""
    mine = (File.id == file_id, File.account_id == account_id, *shown(now_ms))
    step = update(File).where(*mine).values(state=FileState.DELETED, due_ms=now_ms)
    return session.scalar(step.returning(File.id)) is not None


def give_up(session: Session, file_id: str, now_ms: int) -> None:
    """An upload that broke off."""
    begun = (File.id == file_id, File.state == FileState.UPLOADING)
    session.execute(update(File).where(*begun).values(state=FileState.DELETED, due_ms=now_ms))


def take_due(session: Session, now_ms: int) -> Sequence[tuple[str, str]]:
    """Ids and keys of files whose bytes must go; from now on nobody stores or shows them."""
    due = select(File.id).where(File.due_ms <= now_ms).order_by(File.due_ms).limit(SWEPT_MOST)
    step = update(File).where(File.id.in_(session.scalars(due).all()), File.due_ms <= now_ms)
    rows = session.execute(step.values(state=FileState.DELETED).returning(File.id, File.account_id))
    return [(row.id, object_key(row.account_id, row.id)) for row in rows]


def forget(session: Session, names: Collection[str]) -> None:
    """Their bytes are gone."""
    session.execute(sql_delete(File).where(File.id.in_(names), File.state == FileState.DELETED))
