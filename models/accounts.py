"""Who is calling, and within which limits?  Accounts, their keys and their webhook secret.

A key is `sk-tram-` and 43 random characters (256 bits); the row keeps its SHA-256.  A slow hash would add milliseconds to every
request and nothing to 256 bits.  A key is shown once, when it is made.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, insert, or_, select, update
from sqlalchemy.orm import Session, aliased

from models import ids
from models.errors import InvalidRequest, NotFound
from models.limits import Limits
from models.tables.access import Account, ApiKey
from models.webhooks import new_secret

PREFIX = "sk-tram-"
SHORTEST_KEY = 16
"""For keys an operator chooses (`TRAM_API_KEY`): fewer characters can be guessed."""
SHOWN_CHARACTERS = 14
ROTATION_MS = 24 * 3_600_000
"""How long the previous webhook secret signs beside the new one."""
_Parent = aliased(Account)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a key stands for, and what every request of theirs needs."""

    account_id: str
    key_id: str
    salt: bytes
    parent_id: str | None = None
    """The account above its own, whose limits bind it too."""
    limits: tuple[Limits, ...] = ()
    tag: str | None = None
    """For the books, unless a request says another."""

    def may_use(self, card_id: str, name: str) -> bool:
        return all(each.allows(card_id, name) for each in self.limits)


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def create_account(session: Session, name: str, now_ms: int) -> str:
    account_id = ids.new("acct")
    row = {"id": account_id, "name": name, "salt": secrets.token_bytes(32), "webhook_secret": new_secret()}
    session.execute(insert(Account), [row | {"created_ms": now_ms}])
    return account_id


def create_key(session: Session, account_id: str, name: str, now_ms: int, key: str | None = None) -> str:
    """The key itself, for the one time it is shown; `key` when the operator chose it."""
    if key is not None and len(key) < SHORTEST_KEY:
        raise InvalidRequest(f"an API key needs at least {SHORTEST_KEY} characters", param="TRAM_API_KEY")
    key = key or PREFIX + secrets.token_urlsafe(32)
    shown = key[: min(SHOWN_CHARACTERS, len(key) // 2)]
    row = {"id": ids.new("key"), "account_id": account_id, "name": name, "shown": shown}
    session.execute(insert(ApiKey), [row | {"digest": digest(key), "created_ms": now_ms}])
    return key


def caller(session: Session, key: str, now_ms: int) -> Caller | None:
    rows = select(ApiKey.id, Account, _Parent).join(Account, Account.id == ApiKey.account_id)
    rows = rows.outerjoin(_Parent, _Parent.id == Account.parent_id)
    rows = rows.where(Account.closed_ms.is_(None), _Parent.closed_ms.is_(None))
    row = session.execute(rows.where(ApiKey.digest == digest(key), _alive(now_ms))).one_or_none()
    if row is None:
        return None
    return _caller(*row)


def owner(session: Session, account_id: str) -> Caller:
    """The account itself, for work of its own that nobody's key is asked for any more."""
    rows = select(Account, _Parent).outerjoin(_Parent, _Parent.id == Account.parent_id)
    return _caller("", *session.execute(rows.where(Account.id == account_id)).one())


def _caller(key_id: str, account: Account, parent: Account | None) -> Caller:
    own = tuple(limits_of(each) for each in (account, parent) if each is not None)
    limits = tuple(each for each in own if each != Limits(each.account_id))
    return Caller(account.id, key_id, account.salt, account.parent_id, limits, account.default_tag)


def limits_of(account: Account) -> Limits:
    values = {name: getattr(account, name) for name in Limits.__slots__ if name not in {"account_id", "models"}}
    return Limits(account.id, models=None if account.models is None else tuple(account.models), **values)


def _alive(now_ms: int) -> ColumnElement[bool]:
    return or_(ApiKey.revoked_ms.is_(None), ApiKey.revoked_ms > now_ms)


def rotate_keys(session: Session, account_id: str, now_ms: int, grace_ms: int) -> str:
    """A new key; those there are live on for the grace, and not longer than they would have."""
    until = now_ms + grace_ms
    mine = (ApiKey.account_id == account_id, or_(ApiKey.revoked_ms.is_(None), ApiKey.revoked_ms > until))
    session.execute(update(ApiKey).where(*mine).values(revoked_ms=until))
    return create_key(session, account_id, "rotated", now_ms)


def revoke_key(session: Session, key_id: str, now_ms: int) -> bool:
    step = update(ApiKey).where(ApiKey.id == key_id, _alive(now_ms)).values(revoked_ms=now_ms)
    return session.execute(step.returning(ApiKey.id)).one_or_none() is not None


def keys(session: Session) -> Sequence[tuple[ApiKey, str]]:
    """Every key with its account's name, oldest first."""
    rows = select(ApiKey, Account.name).join(Account, Account.id == ApiKey.account_id).order_by(ApiKey.id)
    return [(row.ApiKey, row.name) for row in session.execute(rows)]


def first_account(session: Session) -> str | None:
    return session.scalar(select(Account.id).order_by(Account.id).limit(1))


def account_named(session: Session, name: str) -> str | None:
    """At the top: names of sub-accounts are their parents' business, and may be anything."""
    return session.scalar(select(Account.id).where(Account.name == name, Account.parent_id.is_(None)).limit(1))


def called(session: Session, name: str) -> Account:
    """By its id, or by the name of one at the top.  Raises NotFound."""
    account = session.get(Account, account_named(session, name) or name)
    if account is None:
        raise NotFound(f"there is no account {name!r}", param="account")
    return account


def grant(session: Session, account: Account, micros: int) -> int:
    """All that was paid in so far.  Raises InvalidRequest for a sub-account, which draws on what its parent has paid."""
    if account.parent_id is not None:
        raise InvalidRequest("a sub-account has no credits of its own; give it a spending cap", param="account")
    paid = update(Account).where(Account.id == account.id)
    paid = paid.values(credit_micros=func.coalesce(Account.credit_micros, 0) + micros)
    return session.scalars(paid.returning(Account.credit_micros)).one() or 0


def signing_secrets(session: Session, account_id: str, now_ms: int) -> list[str]:
    """The current secret first; during a rotation the previous one too."""
    account = session.get_one(Account, account_id)
    if account.previous_secret is None or (account.previous_until_ms or 0) <= now_ms:
        return [account.webhook_secret]
    return [account.webhook_secret, account.previous_secret]


def rotate_secret(session: Session, account_id: str, secret: str, now_ms: int) -> None:
    """`secret` signs from now on.  A repetition finds it there: else the one before it would sign no more."""
    account = session.get_one(Account, account_id, with_for_update={"key_share": True})
    if account.webhook_secret != secret:
        account.previous_secret, account.previous_until_ms = account.webhook_secret, now_ms + ROTATION_MS
        account.webhook_secret = secret
        session.flush()
