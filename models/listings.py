"""How are an account's rows listed?  In keyset pages: ids sort by time, so a page is an index range and page 1,000 costs what page 1 does.

A page is asked one row longer than it is, to know whether another follows.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, String, func, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import InstrumentedAttribute, Session, defer
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from models.tables.batches import Batch
from models.tables.files import File
from models.tables.jobs import Job
from models.tables.transcripts import Conversation
from models.tables.webhooks import Delivery

Row = TypeVar("Row", Job, File, Batch, Conversation, Delivery)
LIMIT_MOST = 100


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    rows: Sequence[Row]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Window:
    """Which page: `after` is the last id of the one before it."""

    after: str | None = None
    limit: int = 20
    ascending: bool = False


def page(
    session: Session,
    table: type[Row],
    account_id: str,
    window: Window,
    *where: ColumnElement[bool],
    without: Collection[InstrumentedAttribute[Any]] = (),
) -> Page[Row]:
    """`without` names columns that are not looked at, and so not read."""
    rows = select(table).where(table.account_id == account_id, *where)
    rows = rows.options(*(defer(column, raiseload=True) for column in without))
    if window.after is not None:
        rows = rows.where(table.id > window.after if window.ascending else table.id < window.after)
    rows = rows.order_by(table.id if window.ascending else table.id.desc()).limit(window.limit + 1)
    found: Sequence[Any] = session.scalars(rows).all()
    return Page(found[: window.limit], len(found) > window.limit)


def these(session: Session, account_id: str, names: Sequence[str]) -> Sequence[Job]:
    """Those of the named jobs that are the account's and not deleted."""
    rows = select(Job).where(Job.id.in_(names), Job.account_id == account_id, Job.deleted_ms.is_(None))
    return session.scalars(rows.order_by(Job.id)).all()


def tells(key: str, value: str) -> ColumnElement[bool]:
    """Whether a job's metadata says this under that key."""
    return _TextUnder(Job.meta, key) == value


class _TextUnder(FunctionElement[str]):
    """What a JSON object says under a key, whichever: SQLite's paths, which SQLAlchemy would use, know no way to write a quotation mark."""

    inherit_cache = True
    type = String()


@compiles(_TextUnder)
def _by_operator(element: _TextUnder, compiler: SQLCompiler, **options: Any) -> str:
    document, key = element.clauses
    return compiler.process(document.op("->>")(key), **options)


@compiles(_TextUnder, "sqlite")
def _by_walking(element: _TextUnder, compiler: SQLCompiler, **options: Any) -> str:
    document, key = element.clauses
    each = func.json_each(document).table_valued("key", "value")
    return compiler.process(select(each.c.value).where(each.c.key == key).scalar_subquery(), **options)
