"""What produced answers?  A row for each set of facts that any worker ever answered under; jobs name it by its digest."""

from typing import Any

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import Base, Milliseconds, Packed


class Environment(Base):
    __tablename__ = "environments"

    digest: Mapped[str] = mapped_column(String(36), primary_key=True)
    facts: Mapped[dict[str, Any]] = mapped_column(Packed)
    """See `models.environments`; null is what nobody could tell."""
    created_ms: Mapped[int] = mapped_column(Milliseconds)
