"""A stranger's web server that webhooks are sent to: it keeps what it was sent and answers by script.

    async with Receiver() as receiver:
        receiver.script(Reply(503, headers={"Retry-After": "7"}), HANG, Reply(200, b"thanks"))
        ...
        sent = await receiver.next()

Replies are used up in order; after the last one everything is answered 204.  It listens on a loopback address on a free port, so
whoever calls it must have that among the networks it may call.  Entered again, it listens on the same port.
"""

import asyncio
import ssl
from collections import deque
from dataclasses import dataclass, field
from typing import Self

from aiohttp import web

WAIT_S = 20.0


@dataclass(frozen=True, slots=True)
class Reply:
    status: int = 204
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    after: asyncio.Event | None = None
    """Answer only when this is set."""
    hangs: bool = False
    """Never answer: for as long as the caller bears it."""


HANG = Reply(hangs=True)


@dataclass(frozen=True, slots=True)
class Sent:
    method: str
    path: str
    """With its query."""
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    peer: tuple[str, int]
    """The caller's end of the connection."""


class Receiver:
    def __init__(self, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.seen: list[Sent] = []
        self._unread: asyncio.Queue[Sent] = asyncio.Queue()
        self._script: deque[Reply] = deque()
        self._host, self._tls = host, tls
        self.port = 0

    async def __aenter__(self) -> Self:
        self._runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self.port, ssl_context=self._tls).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self.port}/hook"

    def script(self, *replies: Reply) -> None:
        self._script.extend(replies)

    async def next(self) -> Sent:
        """What came next, waiting for it; raises `TimeoutError` when nothing comes."""
        async with asyncio.timeout(WAIT_S):
            return await self._unread.get()

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        sent = Sent(
            method=request.method,
            path=request.path_qs,
            headers={name.lower(): value for name, value in request.headers.items()},
            body=await request.read(),
            peer=request.transport.get_extra_info("peername")[:2],
        )
        self.seen.append(sent)
        self._unread.put_nowait(sent)
        reply = self._script.popleft() if self._script else Reply()
        if reply.hangs or reply.after:
            await (reply.after or asyncio.Event()).wait()
        return web.Response(status=reply.status, body=reply.body, headers=reply.headers)
