"""What do all tables share?  One naming convention, and a few column types that mean the same on SQLite and Postgres.

Times are Unix milliseconds in a big integer: they compare, index and travel the same everywhere, and their unit is in their
name.  Documents (requests, results, messages) are packed bytes: a database cannot change, reorder or refuse what is in them.
"""

from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Dialect, Enum, LargeBinary, MetaData
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeDecorator

from models.packing import pack, unpack

Milliseconds = BigInteger


class Packed(TypeDecorator[Any]):
    """A JSON document as packed bytes; see `models.packing`."""

    impl = LargeBinary
    cache_ok = True

    def __init__(self, *, plain: bool = False) -> None:
        super().__init__()
        self.plain = plain

    def process_bind_param(self, value: Any, dialect: Dialect) -> bytes | None:  # noqa: ARG002
        return None if value is None else pack(value, plain=self.plain)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> Any:  # noqa: ARG002
        return None if value is None else unpack(value)


def words(kind: type[StrEnum]) -> Enum:
    """A column of an enum's values (not names), with a check constraint that repeats the set."""
    return Enum(
        kind,
        native_enum=False,
        create_constraint=True,
        length=20,
        values_callable=lambda members: [member.value for member in members],
    )


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
