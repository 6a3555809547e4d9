"""What happens around every request?  It is timed, counted, gets an id; headers found out on the way go with its answer.

Pure ASGI: nothing here may buffer a stream.
"""

import re
import time
from collections.abc import Iterable, Mapping
from contextvars import ContextVar

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.telemetry import REQUEST_SECONDS, REQUESTS
from models import ids

_ACCEPTABLE_ID = re.compile(r"[\x21-\x7e]{1,128}")
_added: ContextVar[dict[str, str]] = ContextVar("headers of the answer to the request that is being handled")


def add_headers(headers: Mapping[str, str]) -> None:
    """To the answer of the request that is being handled, whatever that answer will be: a refusal, too."""
    _added.get().update(headers)


class RequestId:
    """Echoes a caller's `X-Request-Id`, or makes one; binds it to the log.  Says how long the answer's first word took."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, added = time.perf_counter(), dict[str, str]()
        given = _given(scope["headers"])
        request_id = scope["request_id"] = given if _ACCEPTABLE_ID.fullmatch(given) else ids.new("req")
        _added.set(added)  # a request has a task, and so a context, of its own

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                seconds = time.perf_counter() - began
                own = [(b"x-request-id", request_id.encode()), (b"openai-processing-ms", b"%d" % (seconds * 1000))]
                own += [(name.encode(), value.encode()) for name, value in added.items()]
                message["headers"] = [*message["headers"], *own]
                _count(scope, message["status"], seconds)
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            await self._app(scope, receive, send_with_id)


def _given(headers: Iterable[tuple[bytes, bytes]]) -> str:
    return next((value.decode("latin-1") for name, value in headers if name == b"x-request-id"), "")


def _count(scope: Scope, status: int, seconds: float) -> None:
    """By route, not by path: ids in paths would make a series each."""
    route = getattr(scope.get("route"), "path", "unknown")
    REQUESTS.labels(route, str(status)).inc()
    REQUEST_SECONDS.labels(route).observe(seconds)
