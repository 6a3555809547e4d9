"""What does a delivery say, how is it signed, and when is it tried again?

Pure rules over values: the caller brings the clock, the dice and the secrets, and keeps the log.  One secret string serves two
schemes, Standard Webhooks (keyed with the decoded bytes) and AIGateway's (keyed with the string itself), so the receivers that
people already have verify us unchanged.  Nothing here sends, stores or sleeps.
"""

import hashlib
import hmac
import json
import os
from base64 import b64decode, b64encode
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from http import HTTPStatus
from typing import Any

from models.lifecycle import JobState

SCHEDULE_S = (0, 5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
"""Delay before each attempt, counted from the one before it: Standard Webhooks' own example, 75 hours in all."""

PAYLOAD_LIMIT_BYTES = 64 << 10
"""A longer body leaves the result to be fetched: Express, for one, refuses 100 kB unless told otherwise."""

_SECRET_PREFIX = "whsec_"  # noqa: S105
_SECRET_BYTES = 32  # Standard Webhooks asks for 24 to 64
_JITTER = 0.2  # share of the step, as Svix has it: receivers that fell together do not come back together
_SLOW_STEP_S = 60  # Svix's least pause after a time-out or a 429
_SLOW_DOWN = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.GATEWAY_TIMEOUT})


class Verdict(StrEnum):
    DELIVERED = "delivered"
    """The receiver took it (2xx)."""
    GONE = "gone"
    """The receiver wants no more, of this or of anything (410)."""
    RETRY = "retry"
    """It failed; the schedule decides when to try again."""
    RETRY_SLOWLY = "retry_slowly"
    """It failed because the receiver is overloaded: the next attempt waits a minute at least."""


def verdict(status: int | None, *, timed_out: bool = False) -> Verdict:
    """What an attempt's HTTP status means; `None` when there was no answer.  A redirect is a failure, as the standard rules."""
    if timed_out or status in _SLOW_DOWN:
        return Verdict.RETRY_SLOWLY
    if status is None:
        return Verdict.RETRY
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return Verdict.DELIVERED
    return Verdict.GONE if status == HTTPStatus.GONE else Verdict.RETRY


def next_due(
    attempts: int, now: datetime, retry_after_s: float | None, jitter: float, *, slowly: bool = False
) -> datetime | None:
    """When to try next after `attempts` tries; `None` when the schedule is used up.  `jitter` is a throw in -1..1.

    A `Retry-After` is honoured between the step and twice the step: the receiver may slow us down, not stop us.
    """
    if attempts >= len(SCHEDULE_S):
        return None
    least_s = _SLOW_STEP_S if slowly else 0
    step_s = max(SCHEDULE_S[attempts], least_s)
    if retry_after_s is None:
        return now + timedelta(seconds=max(step_s * (1 + _JITTER * jitter), least_s))
    # The step stands first in max() so that a NaN loses; jitter only adds, for earlier than asked would be asking for another no.
    asked_s = max(step_s, retry_after_s) * (1 + _JITTER * abs(jitter))
    return now + timedelta(seconds=min(asked_s, 2 * step_s))


def new_secret() -> str:
    return _SECRET_PREFIX + b64encode(os.urandom(_SECRET_BYTES)).decode()


def sign(secrets: tuple[str, ...], event_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of one attempt; `timestamp` is Unix time in seconds, `secrets` newest first (two during a rotation).

    Every secret signs in both schemes.  A Standard Webhooks receiver accepts any of the signatures; AIGateway's verifier reads
    the last `v1` only, so the first secret stands last there: the caller chooses whom it serves by the order, which it may
    turn round on a second attempt to reach a receiver that still has the old one.
    """
    standard = [_standard(secret, f"{event_id}.{timestamp}.", body) for secret in secrets]
    gateway = [_gateway(secret, f"{timestamp}.", body) for secret in reversed(secrets)]
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(standard),
        "X-Gateway-Signature": ",".join([f"t={timestamp}", *gateway]),
    }


def _standard(secret: str, stamp: str, body: bytes) -> str:
    key = b64decode(secret.removeprefix(_SECRET_PREFIX))
    return "v1," + b64encode(hmac.digest(key, stamp.encode() + body, hashlib.sha256)).decode()


def _gateway(secret: str, stamp: str, body: bytes) -> str:
    return "v1=" + hmac.digest(secret.encode(), stamp.encode() + body, hashlib.sha256).hex()


def completion_event(state: JobState) -> str:
    """The `type` of the event that announces a job's state."""
    return f"chat.completion.{state}"


def event_body(
    event_id: str, event_type: str, at: datetime, data: dict[str, Any], *, result_url: str, thin: bool = False
) -> bytes:
    """The JSON that is signed and sent; the same arguments give the same bytes, so every attempt sends what the first did.

    `at` is when the event happened, with its time zone.  A `result` in `data` gives way to `result_url` when the body would
    pass the limit, or when the endpoint asked for `thin` ones.
    """
    whole = _encoded(event_id, event_type, at, data)
    if "result" not in data or (len(whole) <= PAYLOAD_LIMIT_BYTES and not thin):
        return whole
    without = {name: value for name, value in data.items() if name != "result"}
    return _encoded(event_id, event_type, at, {**without, "result_url": result_url})


def _encoded(event_id: str, event_type: str, at: datetime, data: dict[str, Any]) -> bytes:
    assert at.tzinfo is not None, "a time without its zone would be read in the machine's"
    event = {
        "id": event_id,
        "object": "event",
        "type": event_type,
        "created_at": int(at.timestamp()),
        "timestamp": at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "data": data,
    }
    text = json.dumps(event, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # Half a surrogate pair, which a model cut short can emit, has no UTF-8; `\udXXX` is its name in JSON too.
    return text.encode("utf-8", "backslashreplace")
