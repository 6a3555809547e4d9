"""Which accounts stand below another, and what may their owner do with them?  One level: a sub-account has none below it.

A sub-account has its own keys, salt, webhook secret and limits; it draws on its parent's credits, and its parent's limits bind it
too.  Its parent sees what it uses, not what it says.  A closed one is gone for everybody but the books.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from models import batches
from models.accounts import create_account, create_key, rotate_keys
from models.tables.access import Account

LISTED_MOST = 1_000


def create(session: Session, parent_id: str, name: str, columns: dict[str, Any], now_ms: int) -> tuple[Account, str]:
    """The account and its first key, for the one time that is shown."""
    account_id = create_account(session, name, now_ms)
    session.execute(update(Account).where(Account.id == account_id).values(columns | {"parent_id": parent_id}))
    return session.get_one(Account, account_id), create_key(session, account_id, "first", now_ms)


def listed(session: Session, parent_id: str, after: str | None, limit: int) -> Sequence[Account]:
    """Oldest first."""
    rows = select(Account).where(Account.parent_id == parent_id, Account.closed_ms.is_(None))
    if after is not None:
        rows = rows.where(Account.id > after)
    return session.scalars(rows.order_by(Account.id).limit(limit)).all()


def find(session: Session, parent_id: str, account_id: str) -> Account | None:
    mine = (Account.id == account_id, Account.parent_id == parent_id, Account.closed_ms.is_(None))
    return session.scalars(select(Account).where(*mine)).one_or_none()


def change(session: Session, parent_id: str, account_id: str, columns: dict[str, Any]) -> Account | None:
    account = find(session, parent_id, account_id)
    if account is not None:
        for name, value in columns.items():
            setattr(account, name, value)
        session.flush()
    return account


def close(session: Session, parent_id: str, account_id: str, now_ms: int) -> bool:
    """Its open jobs go on to their end, and its batches are cancelled: nobody has a key any more with which to do so."""
    mine = (Account.id == account_id, Account.parent_id == parent_id)
    still = or_(Account.closed_ms.is_(None), Account.closed_ms == now_ms)  # the latter by what this repeats
    step = update(Account).where(*mine, still).values(closed_ms=now_ms)
    if session.scalar(step.returning(Account.id)) is None:
        return False
    batches.cancel_all(session, account_id, now_ms)
    return True


def rotate(session: Session, parent_id: str, account_id: str, now_ms: int, grace_ms: int) -> tuple[Account, str] | None:
    account = find(session, parent_id, account_id)
    return None if account is None else (account, rotate_keys(session, account_id, now_ms, grace_ms))
