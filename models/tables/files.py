"""Which files does an account keep?  The bytes lie in the object store; a row says what they are and until when they stay.

The row comes before the bytes and goes after them, so no process that dies leaves bytes that nobody knows of.
"""

from enum import StrEnum

from sqlalchemy import BigInteger, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import Base, Milliseconds, words

_DUE = text("due_ms IS NOT NULL")


class FileState(StrEnum):
    UPLOADING = "uploading"
    """Its bytes are on their way; shown to nobody."""
    STORED = "stored"
    """All its bytes are there, and do not change any more."""
    DELETED = "deleted"
    """Shown to nobody; its bytes are about to go, and the row with them."""


class File(Base):
    __tablename__ = "files"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    filename: Mapped[str] = mapped_column(String(255))
    purpose: Mapped[str] = mapped_column(String(20))
    state: Mapped[FileState] = mapped_column(words(FileState))
    bytes: Mapped[int] = mapped_column(BigInteger)
    created_ms: Mapped[int] = mapped_column(Milliseconds)
    expires_ms: Mapped[int | None] = mapped_column(Milliseconds)
    due_ms: Mapped[int | None] = mapped_column(Milliseconds)
    """When upkeep takes it away: given up while it was uploaded, expired, or deleted."""

    __table_args__ = (
        Index("ix_files_list", "account_id", "id"),
        Index("ix_files_list_purpose", "account_id", "purpose", "id"),
        Index("ix_files_due", "due_ms", sqlite_where=_DUE, postgresql_where=_DUE),
    )
