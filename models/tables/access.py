"""Who may call, and what belongs to them: accounts and their keys."""

from sqlalchemy import ForeignKey, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import Base, Milliseconds


class Account(Base):
    __tablename__ = "accounts"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    salt: Mapped[bytes] = mapped_column(LargeBinary(32))
    """Keys every prefix hash and the engine's cache: no account can tell what another has sent."""
    webhook_secret: Mapped[str] = mapped_column(String(100))
    previous_secret: Mapped[str | None] = mapped_column(String(100))
    """Signs beside the new one until `previous_until_ms`, so that receivers can change over."""
    previous_until_ms: Mapped[int | None] = mapped_column(Milliseconds)
    created_ms: Mapped[int] = mapped_column(Milliseconds)


class ApiKey(Base):
    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    shown: Mapped[str] = mapped_column(String(24))
    """The key's first characters: enough to recognise it in a list, too few to use it."""
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    created_ms: Mapped[int] = mapped_column(Milliseconds)
    revoked_ms: Mapped[int | None] = mapped_column(Milliseconds)
