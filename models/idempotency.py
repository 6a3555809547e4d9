"""Has this request been made before?  A caller's key names one request for a day, and the job (or replay) that it became.

Taken in the transaction that inserts the job, so of many requests at once exactly one makes it and the others join it.  A request
that is refused takes no key.  What it became keeps it, however it ended: a failure is told again, another try takes another key.
Source: the IETF's draft on the Idempotency-Key header (-07), and Stripe's practice: another request under the same key is refused.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from models.batches import NewBatch, begin
from models.errors import KeyReused
from models.files import NewFile, store
from models.handover import NewJob
from models.jobs import submit
from models.tables.jobs import IdempotencyKey

KEPT_MS = 24 * 3_600_000
LONGEST_KEY = 255


def digest(path: str, body: dict[str, Any]) -> str:
    """Of what was asked, whatever the order and spacing of its JSON."""
    text = path.encode() + orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def submit_once(session: Session, job: NewJob, key: str, digest_of: str, now_ms: int) -> str:
    """The id of the job that `key` stands for: this one, or the one that an equal request made.  Raises KeyReused."""
    known = taken(session, job.account_id, key, digest_of, job.id, now_ms)
    if known == job.id:
        submit(session, [job])
    return known


def made_before(session: Session, account_id: str, key: str, digest_of: str, now_ms: int) -> str | None:
    """What `key` stands for already; None when the request would be new.  Raises KeyReused."""
    mine = (IdempotencyKey.account_id == account_id, IdempotencyKey.key == key, IdempotencyKey.due_ms > now_ms)
    known = session.scalars(select(IdempotencyKey).where(*mine)).one_or_none()
    return None if known is None else _same(known, digest_of)


def forget(session: Session, now_ms: int) -> None:
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.due_ms <= now_ms))


def begin_once(session: Session, batch: NewBatch, key: str, digest_of: str) -> str:
    """The same for a batch, a replay or an eval's run, whose rows come later."""
    known = taken(session, batch.account_id, key, digest_of, batch.id, batch.created_ms)
    if known == batch.id:
        begin(session, batch)
    return known


def store_once(session: Session, file: NewFile, account_id: str, key: str, digest_of: str, now_ms: int) -> str | None:
    """The same for a file whose bytes have come; None where they came too late."""
    known = taken(session, account_id, key, digest_of, file.id, now_ms)
    if known == file.id and not store(session, file):
        return None
    return known


def taken(session: Session, account_id: str, key: str, digest_of: str, name: str, now_ms: int) -> str:
    """What the key stands for from now on: `name`, if nothing had it."""
    mine = (IdempotencyKey.account_id == account_id, IdempotencyKey.key == key)
    session.execute(delete(IdempotencyKey).where(*mine, IdempotencyKey.due_ms <= now_ms))
    row = {"account_id": account_id, "key": key, "digest": digest_of, "job_id": name, "due_ms": now_ms + KEPT_MS}
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    # Of two at once the second waits here until the first is committed, and then finds the key taken.
    taken = session.execute(
        dialect.insert(IdempotencyKey).values(row).on_conflict_do_nothing().returning(IdempotencyKey.key)
    )
    if taken.one_or_none() is not None:
        return name
    return _same(session.scalars(select(IdempotencyKey).where(*mine)).one(), digest_of)


def _same(known: IdempotencyKey, digest_of: str) -> str:
    if known.digest != digest_of:
        raise KeyReused("this Idempotency-Key came with another request", param="Idempotency-Key")
    return known.job_id


def submit_all_once(session: Session, new: Sequence[NewJob], key: str, digest_of: str, now_ms: int) -> str:
    """As `submit_once`, for jobs that were asked for together: the key stands for the first, and with it for all."""
    known = submit_once(session, new[0], key, digest_of, now_ms)
    if known == new[0].id and len(new) > 1:
        submit(session, new[1:])
    return known
