"""How is a row inserted that may be there already?  By a statement that leaves it as it is.

`infra.database` repeats a verb whose commit's answer was lost.  Where a row has its id from outside the verb, the repetition finds
its own.  Relies on that: ids are never given twice.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from models.tables.base import Base


def insert_once(session: Session, kind: type[Base], rows: Sequence[Mapping[str, Any]]) -> None:
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    session.execute(dialect.insert(cast("Table", kind.__table__)).on_conflict_do_nothing(), rows)
