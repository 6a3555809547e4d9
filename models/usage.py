"""What was used, by whom, under which tag, and what did it cost?

`charge` writes a job's row in the transaction that ends it, once for every ending.  It adds to nothing that another job's end adds
to, so workers never wait for one another here; `fold`, run by upkeep, moves what has come since into sums by account, month and
tag.  So a sum is read from few rows, in one statement: the sums and the rows not folded yet, each row in exactly one of the two.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Row, Table, bindparam, case, func, literal, or_, select, union_all, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from models.lifecycle import FINAL
from models.limits import Settlement, month_of, settlement
from models.tables.access import Account
from models.tables.jobs import Job
from models.tables.usage import Usage, UsageSum

FOLD_MOST = 5_000
RECENT_MOST = 1_000
_ADDED = ("prompt_tokens", "cached_tokens", "completion_tokens", "cost_micros")
_KEY = ("payer_id", "account_id", "month", "tag")


@dataclass(frozen=True, slots=True)
class Summed:
    label: str
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cost_micros: int


@dataclass(frozen=True, slots=True)
class Standing:
    """An account's money as the database knows it."""

    month_micros: int
    total_micros: int
    open: Sequence[tuple[str, int]]
    """Its open jobs, and what is held for each."""


def charge(session: Session, job: Row[Any], ending: Any, cost_micros: int) -> None:
    """Called with the step into an end state, inside its transaction."""
    row = {name: getattr(job, name) for name in ("account_id", "model", "card")}
    row |= {name: getattr(ending, name) for name in ("at_ms", "state", *_ADDED[:3])}
    row |= {"job_id": job.id, "payer_id": job.parent_id or job.account_id, "tag": job.tag or "", "folded": False}
    session.execute(_CHARGE, [row | {"cost_micros": cost_micros, "month": month_of(ending.at_ms)}])


def fold(session: Session) -> int:
    """Adds up rows that came since the last time; how many.  Two that do it at once take different rows."""
    rows = unfolded(session)
    sums: dict[tuple[str, ...], list[int]] = defaultdict(lambda: [0] * (1 + len(_ADDED)))
    for row in rows:
        total = sums[tuple(getattr(row, name) for name in _KEY)]
        for place, amount in enumerate((1, *(getattr(row, name) for name in _ADDED))):
            total[place] += amount
    for key, total in sorted(sums.items()):  # in one order for all, so that none waits for another in a circle
        _add(session, dict(zip((*_KEY, "requests", *_ADDED), (*key, *total), strict=True)))
    session.execute(update(Usage).where(Usage.job_id.in_([row.job_id for row in rows])).values(folded=True))
    return len(rows)


def unfolded(session: Session) -> Sequence[Row[Any]]:
    """What came since; in the order of the index that has just these."""
    query = select(Usage.job_id, *(getattr(Usage, name) for name in (*_KEY, *_ADDED))).where(~Usage.folded)
    fresh = query.order_by(Usage.payer_id).limit(FOLD_MOST)
    return session.execute(fresh.with_for_update(skip_locked=True)).all()


def _add(session: Session, row: dict[str, Any]) -> None:
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    new = dialect.insert(UsageSum).values(row)
    more = {name: getattr(UsageSum, name) + getattr(new.excluded, name) for name in ("requests", *_ADDED)}
    session.execute(new.on_conflict_do_update(index_elements=list(_KEY), set_=more))


def by_tag(session: Session, account_id: str, month: str) -> list[Summed]:
    return _summed(session, "tag", account_id, month)


def by_account(session: Session, account_id: str, month: str) -> list[Summed]:
    """Those below it, and itself."""
    return _summed(session, "account_id", account_id, month)


def _summed(session: Session, label: str, account_id: str, month: str) -> list[Summed]:
    both = _sums_and_rows(_whose(session, account_id)).subquery()
    added = [func.sum(both.c[name]) for name in ("requests", *_ADDED)]
    rows = select(both.c[label], *added).where(both.c.month == month).group_by(both.c[label]).order_by(both.c[label])
    return [Summed(row[0], *map(int, row[1:])) for row in session.execute(rows)]


def _whose(session: Session, account_id: str) -> dict[str, str]:
    """Columns that tell an account's usage; a top-level account's is that of all below it, too."""
    parent = session.scalar(select(Account.parent_id).where(Account.id == account_id))
    return {"payer_id": account_id} if parent is None else {"payer_id": parent, "account_id": account_id}


def _sums_and_rows(whose: dict[str, str]) -> Any:
    labels = ("account_id", "month", "tag")
    sums = select(*(getattr(UsageSum, name) for name in (*labels, "requests", *_ADDED))).filter_by(**whose)
    rows = select(*(getattr(Usage, name) for name in labels), literal(1).label("requests"), *_amounts())
    return union_all(sums, rows.where(~Usage.folded).filter_by(**whose))


def _amounts() -> list[Any]:
    return [getattr(Usage, name) for name in _ADDED]


def recent(session: Session, account_id: str, limit: int) -> Sequence[Usage]:
    """Newest first, of all below it too."""
    rows = select(Usage).filter_by(**_whose(session, account_id))
    return session.scalars(rows.order_by(Usage.at_ms.desc(), Usage.job_id.desc()).limit(limit)).all()


def spent(session: Session, account_id: str, month: str, *, but: Collection[str] = ()) -> tuple[int, int]:
    """Micro-dollars this month and ever; `but` names jobs to leave out."""
    both = _sums_and_rows(_whose(session, account_id)).subquery()
    left_out = select(Usage.month, -Usage.cost_micros).where(Usage.job_id.in_(but))
    each = union_all(select(both.c.month, both.c.cost_micros), left_out).subquery()
    sums = select(func.sum(case((each.c.month == month, each.c.cost_micros), else_=0)), func.sum(each.c.cost_micros))
    this_month, ever = session.execute(sums).one()
    return int(this_month or 0), int(ever or 0)


def standing(session: Session, account_id: str, month: str, held: Collection[str]) -> Standing:
    """`held` names the jobs that are still counted as open, whatever has become of them: what they cost is left out."""
    this_month, ever = spent(session, account_id, month, but=held)
    mine = or_(Job.parent_id == account_id, Job.account_id == account_id)
    jobs = select(Job.id, Job.held_micros).where(mine, Job.held_micros.is_not(None), Job.ended_ms.is_(None))
    return Standing(this_month, ever, [(row.id, row.held_micros) for row in session.execute(jobs)])


def ended(session: Session, ids: Collection[str]) -> tuple[list[Settlement], list[str]]:
    """Of some jobs that are counted as open: what those that have ended took, and those for which nothing need be held."""
    columns = (Job.id, Job.state, Job.account_id, Job.parent_id, Job.card, Job.held_micros)
    facts = (Job.ended_ms.label("at_ms"), Job.prompt_tokens, Job.completion_tokens)
    rows = session.execute(select(*columns, *facts).where(Job.id.in_(ids))).all()
    over = [settlement(row, row) for row in rows if row.state in FINAL]
    bound = {row.id for row in rows if row.held_micros is not None}
    return [each for each in over if each is not None], sorted(set(ids) - bound)


def spent_each(session: Session, payer_id: str, month: str) -> dict[str, tuple[int, int]]:
    """Micro-dollars this month and ever, of each account below a top-level one, and its own."""
    both = _sums_and_rows({"payer_id": payer_id}).subquery()
    this_month = func.sum(case((both.c.month == month, both.c.cost_micros), else_=0))
    rows = select(both.c.account_id, this_month, func.sum(both.c.cost_micros)).group_by(both.c.account_id)
    return {row[0]: (int(row[1]), int(row[2])) for row in session.execute(rows)}


_TABLE = cast("Table", Usage.__table__)
_CHARGE = _TABLE.insert().values({column.name: bindparam(column.name) for column in _TABLE.columns})
