"""What happens around every request?  It gets an id, and it is counted.  Pure ASGI: nothing here may buffer a stream."""

import re
import time

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.telemetry import REQUEST_SECONDS, REQUESTS
from models import ids

_ACCEPTABLE_ID = re.compile(r"[\x21-\x7e]{1,128}")


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
        scope["request_id"] = request_id
        began = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-request-id"] = request_id
                _count(scope, message["status"], time.perf_counter() - began)
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            await self._app(scope, receive, send_with_id)


def _count(scope: Scope, status: int, seconds: float) -> None:
    """By route, not by path: ids in paths would make a series each."""
    route = getattr(scope.get("route"), "path", "unknown")
    REQUESTS.labels(route, str(status)).inc()
    REQUEST_SECONDS.labels(route).observe(seconds)
