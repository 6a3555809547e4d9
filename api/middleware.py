"""What happens around every request?  It gets an id, it is counted, and headers that were found out on the way go with its answer.

Pure ASGI: nothing here may buffer a stream.
"""

import re
import time
from collections.abc import Mapping
from contextvars import ContextVar

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.telemetry import REQUEST_SECONDS, REQUESTS
from models import ids

_ACCEPTABLE_ID = re.compile(r"[\x21-\x7e]{1,128}")
_added: ContextVar[dict[str, str]] = ContextVar("headers of the answer to the request that is being handled")


def add_headers(headers: Mapping[str, str]) -> None:
    """To the answer of the request that is being handled, whatever that answer will be: a refusal, too."""
    _added.get().update(headers)


class RequestId:
    """Echoes a caller's `X-Request-Id`, or makes one; binds it to the log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _ACCEPTABLE_ID.fullmatch(given) else ids.new("req")
        began, added = time.perf_counter(), dict[str, str]()
        _added.set(added)  # a request has a task, and so a context, of its own

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update({"x-request-id": request_id, **added})
                _count(scope, message["status"], time.perf_counter() - began)
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            await self._app(scope, receive, send_with_id)


def _count(scope: Scope, status: int, seconds: float) -> None:
    """By route, not by path: ids in paths would make a series each."""
    route = getattr(scope.get("route"), "path", "unknown")
    REQUESTS.labels(route, str(status)).inc()
    REQUEST_SECONDS.labels(route).observe(seconds)
