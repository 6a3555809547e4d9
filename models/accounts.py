"""Who is calling?  Accounts, their keys and their webhook secret.

A key is `sk-tram-` and 43 random characters (256 bits); the row keeps its SHA-256.  A slow hash would add milliseconds to every
request and nothing to 256 bits.  A key is shown once, when it is made.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from models import ids
from models.errors import InvalidRequest
from models.tables.access import Account, ApiKey
from models.webhooks import new_secret

PREFIX = "sk-tram-"
SHORTEST_KEY = 16
"""For keys an operator chooses (`TRAM_API_KEY`): fewer characters can be guessed."""
SHOWN_CHARACTERS = 14
ROTATION_MS = 24 * 3_600_000
"""How long the previous webhook secret signs beside the new one."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a key stands for, and what every request of theirs needs."""

    account_id: str
    key_id: str
    salt: bytes


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


def caller(session: Session, key: str) -> Caller | None:
    rows = select(Account.id, ApiKey.id, Account.salt).join(Account, Account.id == ApiKey.account_id)
    row = session.execute(rows.where(ApiKey.digest == digest(key), ApiKey.revoked_ms.is_(None))).one_or_none()
    return None if row is None else Caller(*row)


def revoke_key(session: Session, key_id: str, now_ms: int) -> bool:
    step = update(ApiKey).where(ApiKey.id == key_id, ApiKey.revoked_ms.is_(None)).values(revoked_ms=now_ms)
    return session.execute(step.returning(ApiKey.id)).one_or_none() is not None


def keys(session: Session) -> Sequence[tuple[ApiKey, str]]:
    """Every key with its account's name, oldest first."""
    rows = select(ApiKey, Account.name).join(Account, Account.id == ApiKey.account_id).order_by(ApiKey.id)
    return [(row.ApiKey, row.name) for row in session.execute(rows)]


def first_account(session: Session) -> str | None:
    return session.scalar(select(Account.id).order_by(Account.id).limit(1))


def account_named(session: Session, name: str) -> str | None:
    return session.scalar(select(Account.id).where(Account.name == name).limit(1))


def signing_secrets(session: Session, account_id: str, now_ms: int) -> list[str]:
    """The current secret first; during a rotation the previous one too."""
    account = session.get_one(Account, account_id)
    if account.previous_secret is None or (account.previous_until_ms or 0) <= now_ms:
        return [account.webhook_secret]
    return [account.webhook_secret, account.previous_secret]


def rotate_secret(session: Session, account_id: str, now_ms: int) -> str:
    account = session.get_one(Account, account_id, with_for_update={"key_share": True})
    account.previous_secret, account.previous_until_ms = account.webhook_secret, now_ms + ROTATION_MS
    account.webhook_secret = new_secret()
    session.flush()
    return account.webhook_secret
