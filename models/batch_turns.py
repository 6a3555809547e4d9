"""Which open batches are a feeder's, which of them go on next, and which and how many rows of each may be jobs at once?

`take` keeps feeders apart, only to save work: what happens to a batch is guarded by the batch's own steps.  It never commits.  `Turns`
is what a feeder remembers.  In both, nobody's batches stand behind all of somebody else's, however many those are.
"""

from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass, field

import orjson
from sqlalchemy import and_, func, select, update
from sqlalchemy.orm import Session

from models.tables.batches import Batch, BatchRow, RowState

LEASE_MS = 15_000
"""How long a silent feeder keeps a batch."""
RENEWED_MS = 3_000
"""How old a lease may get: each look would else write the row of every batch that is open."""
TAKEN_MOST = 100
WINDOW = 512
"""Rows of one account's batches that are jobs at once: more than a worker holds, so that the engine's policy has a choice, and few
enough for Redis' queues to stay shallow, and for others' rows to stand near the front."""
LEAST = 16
"""A batch's share of it among however many: one whose model nobody serves must not keep the others from moving."""
AT_ONCE = 50
"""Batches of one account that are looked at beside each other: the database's connections are there for the others', too."""
READ_BYTES = 4 << 20
"""Of a batch's rows at a time.  One alone may have as much, and takes five times that while it becomes a job."""
_A_FEW = {"yield_per": 4}
_PLAIN = {"synchronize_session": False}  # no rows are held here


def take(session: Session, holder: str, now_ms: int) -> dict[str, str]:
    """The open batches that are this feeder's from now on, each with its account: its own, and some that nobody has held lately."""
    mine = and_(Batch.ended_ms.is_(None), Batch.holder == holder)
    due = Batch.lease_until_ms < now_ms + LEASE_MS - RENEWED_MS
    lease = {"lease_until_ms": now_ms + LEASE_MS}
    session.execute(update(Batch).where(mine, due).values(lease), execution_options=_PLAIN)
    free = and_(Batch.ended_ms.is_(None), Batch.lease_until_ms < now_ms)
    turn = func.row_number().over(partition_by=Batch.account_id, order_by=Batch.id).label("turn")
    turns = select(Batch.id, turn).where(free).subquery()
    chosen = select(turns.c.id).order_by(turns.c.turn, turns.c.id).limit(TAKEN_MOST)
    taken = update(Batch).where(Batch.id.in_(chosen), free).values(lease | {"holder": holder})
    session.execute(taken, execution_options=_PLAIN)
    rows = session.execute(select(Batch.id, Batch.account_id).where(mine).order_by(Batch.id))
    return {row.id: row.account_id for row in rows}


def next_rows(session: Session, batch_id: str, limit: int) -> list[BatchRow]:
    """The rows of a batch to feed next, in their place; fewer where they are long, one at least where any waits."""
    rows = select(BatchRow).where(BatchRow.batch_id == batch_id, BatchRow.state == RowState.WAITING)
    found: list[BatchRow] = []
    held_bytes = 0
    with session.scalars(rows.order_by(BatchRow.place).limit(limit), execution_options=_A_FEW) as coming:
        for row in coming:
            found.append(row)
            held_bytes += len(orjson.dumps(row.body))
            if held_bytes >= READ_BYTES:
                break
    return found


@dataclass
class Turns:
    _held: dict[str, str] = field(default_factory=dict)
    """Each with its account; whose last turn is the longest ago comes first."""
    _open: Counter[str] = field(default_factory=Counter)
    """Of each account, how many."""

    def hold(self, taken: Mapping[str, str]) -> None:
        self._held = {batch_id: taken[batch_id] for batch_id in self._held if batch_id in taken} | dict(taken)
        self._open = Counter(taken.values())

    def next(self, busy: Container[str]) -> list[str]:
        """Those that go on now, beside those that are `busy`."""
        left = Counter(dict.fromkeys(self._held.values(), AT_ONCE))
        left.subtract(account for batch_id, account in self._held.items() if batch_id in busy)
        found = []
        for batch_id, account in self._held.items():
            if left[account] > 0 and batch_id not in busy:
                left[account] -= 1
                found.append(batch_id)
        self._held |= {batch_id: self._held.pop(batch_id) for batch_id in found}
        return found

    def share(self, account: str) -> int:
        """How many rows of one of its batches may be jobs at once."""
        return min(WINDOW, max(LEAST, WINDOW // max(1, self._open[account])))
