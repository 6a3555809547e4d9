"""How long does a thread wait for Postgres?  For a host that has vanished as long as `infra.keepalive` says; for one that takes what
it is asked and never answers (a server that hangs, a proxy whose server is gone) as long as whoever connects says.

psycopg waits in the calling thread for as long as it takes, and a server's own `statement_timeout` does not help where no server is.
Relies on SQLAlchemy to throw away a connection that is found closed.
"""

from collections.abc import Callable
from typing import Any

from psycopg import Connection, OperationalError
from psycopg.errors import ReadOnlySqlTransaction
from psycopg.pq import TransactionStatus
from sqlalchemy.engine import ExceptionContext

from infra import keepalive

OPTIONS = {
    "connect_timeout": 5,
    "keepalives_idle": keepalive.IDLE_S,
    "keepalives_interval": keepalive.INTERVAL_S,
    "keepalives_count": keepalive.PROBES,
    "tcp_user_timeout": keepalive.UNACKNOWLEDGED_MS,
}


def give_up_standby(told: ExceptionContext) -> None:
    """For SQLAlchemy's `handle_error`: who may only read has ended up at a standby, and connects anew, as to one that was lost."""
    if isinstance(told.original_exception, ReadOnlySqlTransaction):
        told.is_disconnect = True


def connecting(answer_s: float) -> Callable[..., Connection[Any]]:
    """For SQLAlchemy's `do_connect`: connections on which each answer has so many seconds."""

    class Bounded(Connection[Any]):
        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            try:
                return super().wait(gen, interval, timeout or answer_s)
            except OperationalError:
                if self.pgconn.transaction_status == TransactionStatus.ACTIVE:  # it is the answer that is missing
                    self.pgconn.finish()
                raise

    return lambda _dialect, _record, args, options: Bounded.connect(*args, **options)
