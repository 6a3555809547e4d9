"""What may a route use?  The process's connections, who is calling and under which tag, and what was sent.

`State` is made once, by `api.app`'s lifespan.  Keys are looked up in the database at most every few seconds each, so a revoked
key works for that long in a process that has just seen it.
"""

import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

from redis.asyncio import Redis
from starlette.requests import ClientDisconnect, Request

from infra.broker import Publisher
from infra.clock import now_ms
from infra.database import Database
from infra.fleet_view import Fleet
from infra.intake import Intake
from infra.objects import ObjectStore
from infra.settings import Settings
from infra.token_stream import TokenReader, TokenWriter
from models import accounts
from models.accounts import Caller
from models.errors import InvalidRequest, TooLarge, Unauthenticated
from models.idempotency import LONGEST_KEY
from models.wire.accounts import TAG
from models.wire.bodies import parsed

KEY_CACHE_S = 5.0
_KEYS_MOST = 10_000
HEADERS_MOST_BYTES = 64 << 10


@dataclass
class State:
    settings: Settings
    database: Database
    redis: "Redis"
    reader: TokenReader
    writer: TokenWriter
    publisher: Publisher
    objects: ObjectStore
    fleet: Fleet
    intake: Intake
    _callers: dict[str, tuple[Caller, float]] = field(default_factory=dict)

    async def caller(self, key: str) -> Caller:
        known = self._callers.get(key)
        if known is not None and known[1] > time.monotonic():
            return known[0]
        caller = await self.database.read(partial(accounts.caller, key=key, now_ms=now_ms()))
        if caller is None:
            self._callers.pop(key, None)
            raise Unauthenticated("the API key is not valid (any more)", param="Authorization")
        if len(self._callers) >= _KEYS_MOST:
            self._callers.clear()
        self._callers[key] = (caller, time.monotonic() + KEY_CACHE_S)
        return caller


def state_of(request: Request) -> State:
    return cast("State", request.state.tram)


async def caller_of(request: Request) -> Caller:
    """Whose key it is.  Raises Unauthenticated, and InvalidRequest for an address no route could make sense of."""
    check_address(request)
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Unauthenticated(
            "send your API key as `Authorization: Bearer sk-...`", code="missing_api_key", param="Authorization"
        )
    caller = await state_of(request).caller(key.strip())
    return caller if (tag := _tag(request)) is None else replace(caller, tag=tag)


def _tag(request: Request) -> str | None:
    tag = request.headers.get("x-aig-tag")
    if tag and not TAG.fullmatch(tag):
        raise InvalidRequest("a tag has 1 to 100 printable ASCII characters", param="x-aig-tag")
    return tag or None


def check_address(request: Request) -> None:
    """Raises InvalidRequest.  Postgres' texts cannot hold NUL; who sends ever more headers wants something else than an answer."""
    if "\0" in request.scope["path"]:
        raise InvalidRequest("NUL characters are not accepted", param="path")
    if b"%00" in request.scope["query_string"]:
        bad = next((name for name, value in request.query_params.multi_items() if "\0" in name + value), "query")
        raise InvalidRequest("NUL characters are not accepted", param=bad.replace("\0", ""))
    if sum(len(name) + len(value) for name, value in request.scope["headers"]) > HEADERS_MOST_BYTES:
        raise TooLarge(f"the headers have more than {HEADERS_MOST_BYTES} bytes", param="headers")


def key_of(request: Request) -> str | None:
    """The caller's Idempotency-Key.  Raises InvalidRequest."""
    key = request.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= LONGEST_KEY:
        raise InvalidRequest(f"an Idempotency-Key has 1 to {LONGEST_KEY} characters", param="Idempotency-Key")
    return key


async def body_of(request: Request) -> dict[str, Any]:
    """The request's JSON object.  Raises TooLarge, InvalidRequest."""
    return parsed(await _read(request, state_of(request).settings.max_body_bytes))


async def _read(request: Request, most: int) -> bytes:
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > most:
        raise TooLarge(f"the body has {length} bytes; at most {most} are accepted", param="body")
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > most:
                raise TooLarge(f"the body has more than {most} bytes", param="body")
            parts.append(part)
    except ClientDisconnect:
        raise InvalidRequest("the body broke off", param="body") from None
    return b"".join(parts)
