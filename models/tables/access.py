"""Who may call, what belongs to them, and how much they may use: accounts and their keys."""

from sqlalchemy import JSON, BigInteger, ForeignKey, Integer, LargeBinary, String
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
    parent_id: Mapped[str | None] = mapped_column(String(32), index=True)
    """Whose sub-account it is; None at the top.  No foreign key: SQLite cannot add one, and no account's row ever goes."""
    external_ref: Mapped[str | None] = mapped_column(String(200))
    """What the parent calls it."""
    default_tag: Mapped[str | None] = mapped_column(String(100))
    requests_per_minute: Mapped[int | None] = mapped_column(Integer)
    tokens_per_minute: Mapped[int | None] = mapped_column(Integer)
    parallel: Mapped[int | None] = mapped_column(Integer)
    """Jobs that are open at once, queued ones among them."""
    models: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    month_cap_micros: Mapped[int | None] = mapped_column(BigInteger)
    """Micro-dollars a calendar month (UTC), as all that follows."""
    total_cap_micros: Mapped[int | None] = mapped_column(BigInteger)
    credit_micros: Mapped[int | None] = mapped_column(BigInteger)
    """All that was ever paid in; None: nobody asks for payment."""
    closed_ms: Mapped[int | None] = mapped_column(Milliseconds)
    """Its keys are void; what it has used stays in the books."""


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
    """May lie ahead: a key that is being replaced lives on until then."""
