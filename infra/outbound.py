"""How are strangers' URLs called without becoming their tool?

The address is judged where the socket is made, once for every address a name resolves to, so that literals, odd spellings, names
that change their mind (DNS rebinding) and IPv4 dressed up as IPv6 all pass the same gate.  A redirect of what is posted is an
answer, not an order; what is got may lie a few redirects further, each through the gate.  There is no proxy, no cookie, no
decompression, and never more of an answer is kept than was asked for.  Relies on aiohttp.  Whether and when to try again is not
decided here (`models.webhooks`).
"""

import asyncio
import re
import socket
import ssl
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from functools import partial
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from infra.addresses import Networks, permitted
from models.errors import InvalidRequest

URL_LIMIT_CHARACTERS = 2048
EXCERPT_LIMIT_BYTES = 2 << 10
REDIRECTS_MOST = 3
IDLE_S = 4.0
"""Less than the 5 s after which uvicorn (SGLang, too) and Node drop an idle connection, perhaps just as we write to it."""

_LOOKUP_THREADS = (
    16  # a name server that never answers holds one for seconds; the loop's own pool must not be what it holds
)
_READ_BYTES = 8 << 10  # buffered of one answer at most twice over, while the excerpt is taken

_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
_NEVER_IN_URLS = re.compile(r"[\s\x00-\x20\x7f\\]")
_SECONDS = re.compile(r"[0-9]{1,9}")


class Reason(StrEnum):
    REFUSED = "refused"
    """The address is not one that strangers may make us call, or the URL is not one."""
    DNS = "dns"
    """The name has no address."""
    CONNECT = "connect"
    """Nobody listens, or the connection broke before an answer."""
    TLS = "tls"
    """The certificate is not valid for this name, or the handshake failed."""
    TIMEOUT = "timeout"
    """No answer in time."""
    PROTOCOL = "protocol"
    """What came back is not HTTP."""


class Unreachable(Exception):
    """There was no answer.  Says why in one word; never which address a name stood for, which is the operator's to know."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    excerpt: str
    """The first 2 KiB of the body as text that any database stores: no NUL, no broken characters."""
    retry_after_s: float | None
    duration_ms: int


@dataclass(frozen=True, slots=True)
class Found:
    status: int
    body: bytes | None
    """None where there is more of it than was asked for."""


class _AddressRefused(OSError):
    """An OSError, so that aiohttp goes on to the name's next address.  One text for all: unlike ones would be merged."""

    def __init__(self, *_: object) -> None:
        super().__init__("address refused")


_REASONS: tuple[tuple[type[Exception], Reason], ...] = (  # the first that fits
    (TimeoutError, Reason.TIMEOUT),
    (InvalidRequest, Reason.REFUSED),
    (aiohttp.InvalidURL, Reason.REFUSED),
    (IndexError, Reason.REFUSED),  # a redirect to what is no URL
    (aiohttp.ClientConnectorDNSError, Reason.DNS),
    (aiohttp.ClientSSLError, Reason.TLS),
    (aiohttp.ClientConnectionError, Reason.CONNECT),
    (aiohttp.ClientError, Reason.PROTOCOL),
    (OSError, Reason.CONNECT),
    (RuntimeError, Reason.CONNECT),  # what uvloop has for a socket that was lost under it
)
_UNREADABLE = (ValueError, IndexError)
"""What yarl has for text that is no URL; the latter for `http://[a]@`."""
_FAULTS = (aiohttp.ClientError, OSError, RuntimeError, InvalidRequest, IndexError)


class Outbound:
    """One per process; `allow` are the networks that may be called though they are private."""

    def __init__(self, allow: Networks) -> None:
        self._allow = tuple(allow)
        self._resolver: _Resolver | None = None
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        self._resolver = _Resolver()
        connector = aiohttp.TCPConnector(
            socket_factory=partial(_socket, allow=self._allow),
            resolver=self._resolver,
            ssl=ssl.create_default_context(),
            limit=0,  # slow strangers must not keep the quick waiting; how many calls run at once is the caller's to say
            keepalive_timeout=IDLE_S,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),  # `post` and `get` keep one clock over all of it
            auto_decompress=False,
            trust_env=False,
            read_bufsize=_READ_BYTES,
            headers={"User-Agent": "Tramontane", "Accept-Encoding": "identity"},
        )

    async def close(self) -> None:
        if self._session and self._resolver:
            await self._session.close()
            await self._resolver.close()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], timeout_s: float = 15) -> Answer:
        """The answer, whatever its status.  Raises `Unreachable` when there is none within `timeout_s`."""
        began = time.monotonic()
        deadline = asyncio.get_running_loop().time() + timeout_s
        response = await self._sent(url, body, headers, deadline)
        try:
            excerpt = await _excerpt(response, deadline)
        finally:
            response.close()  # a connection whose request and answer both ended is back in the pool already and stays there
        return Answer(
            status=response.status,
            excerpt=excerpt.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}"),
            retry_after_s=_retry_after_s(response.headers.get("Retry-After", "")),
            duration_ms=round((time.monotonic() - began) * 1000),
        )

    async def get(self, url: str, most_bytes: int, timeout_s: float) -> Found:
        """What lies there, whatever its status.  Raises `Unreachable` when it has not come whole within `timeout_s`."""
        assert self._session, "open() comes first"
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._session.get(_parsed(url), max_redirects=REDIRECTS_MOST + 1) as found,
            ):
                return Found(found.status, await _whole(found, most_bytes))
        except _FAULTS as fault:
            raise Unreachable(_reason(fault)) from fault

    async def _sent(self, url: str, body: bytes, headers: Mapping[str, str], deadline: float) -> aiohttp.ClientResponse:
        assert self._session, "open() comes first"
        try:
            async with asyncio.timeout_at(deadline):
                told = {"Content-Type": "application/json", **headers}
                return await self._session.post(_parsed(url), data=body, headers=told, allow_redirects=False)
        except _FAULTS as fault:
            raise Unreachable(_reason(fault)) from fault


class _Resolver(AbstractResolver):
    """The system's look-up in threads of its own."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_LOOKUP_THREADS, "lookup")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        look_up = partial(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM)
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        except UnicodeError as fault:  # a label of more than 63 characters
            raise OSError("not a host name") from fault
        return [
            ResolveResult(hostname=host, host=str(at[0]), port=port, family=kind, proto=proto, flags=_NUMERIC)
            for kind, _, proto, _, at in found
        ]

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def check_url(url: str, allow: Networks = (), *, param: str = "webhook_url") -> None:
    """Refuse at the door what could never be delivered: raises `InvalidRequest` naming `param`.

    Addresses are judged again at every connection; here only those that the URL spells out, so that a mistake is told at once.
    """
    try:
        host = _parsed(url).raw_host or ""
    except InvalidRequest as fault:
        raise InvalidRequest(f"{param} {fault.message}", param=param) from fault
    address = _spelled(host.rstrip("."))
    if address and not permitted(address, allow):
        raise InvalidRequest(f"{param} must not name a private address", param=param)


def _spelled(host: str) -> str | None:
    """The address a host name spells out, in any of the ways C libraries read one (`127.1`, `0x7f000001`), or `None`."""
    if host == "localhost" or host.endswith(".localhost"):
        return "127.0.0.1"
    if ":" in host:
        return host
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return None


def _parsed(url: str) -> URL:
    """Raises `InvalidRequest`.  Read by the parser that the client goes by: two parsers are how such checks are walked round."""
    if len(url) > URL_LIMIT_CHARACTERS:
        raise InvalidRequest(f"is longer than {URL_LIMIT_CHARACTERS} characters")
    if _NEVER_IN_URLS.search(url):
        raise InvalidRequest("holds white space, a backslash or a control character")
    try:
        parsed = URL(url)
    except _UNREADABLE as fault:
        raise InvalidRequest("is not a URL") from fault
    if parsed.scheme not in {"http", "https"} or not parsed.raw_host:
        raise InvalidRequest("must be an http or https URL with a host")
    if "@" in parsed.raw_authority:
        raise InvalidRequest("must not carry credentials")
    return parsed


def _socket(info: tuple[Any, ...], *, allow: Networks) -> socket.socket:
    family, kind, protocol, _, address = info
    if not permitted(address[0], allow):
        raise _AddressRefused
    return socket.socket(family, kind, protocol)


async def _excerpt(response: aiohttp.ClientResponse, deadline: float) -> bytes:
    """How the body begins.  One that breaks off or dawdles is cut there: the status has said what matters."""
    taken = bytearray()
    with suppress(aiohttp.ClientError, OSError):  # TimeoutError is an OSError
        async with asyncio.timeout_at(deadline):
            while piece := await response.content.read(EXCERPT_LIMIT_BYTES - len(taken)):
                taken += piece
    return bytes(taken)


async def _whole(response: aiohttp.ClientResponse, most_bytes: int) -> bytes | None:
    if (response.content_length or 0) > most_bytes:
        return None
    taken = bytearray()
    async for piece in response.content.iter_any():
        taken += piece
        if len(taken) > most_bytes:
            return None
    return bytes(taken)


def _reason(fault: Exception) -> Reason:
    if isinstance(fault, aiohttp.ClientConnectorError) and isinstance(fault.os_error, _AddressRefused):
        return Reason.REFUSED
    return next(reason for kind, reason in _REASONS if isinstance(fault, kind))


def _retry_after_s(header: str) -> float | None:
    """Seconds, from a number or a date; `None` when it is neither.  The caller bounds it."""
    if _SECONDS.fullmatch(header):
        return float(header)
    try:
        at = parsedate_to_datetime(header)
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
