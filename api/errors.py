"""How is a request refused?  With OpenAI's envelope (`models.wire.errors`) and advice whether to try again; at Cloudflare's addresses with
Cloudflare's, and its number where it has one (source: Workers AI's list of errors), else the status.

The text of an exception that is not ours never leaves: the caller gets the request id, the log gets the rest.
"""

import math
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from infra.telemetry import REFUSALS
from models import errors
from models.limits import RETRY_MOST_S
from models.wire.errors import Wire, envelope, wire_of

RETRY_AFTER_S = 5.0
"""What a 503 advises: a worker's restart takes about this long."""


_NATIVE_PATH = "/ai/run/"
_NATIVE_CODES: dict[type[errors.TramError], int] = {
    errors.InvalidRequest: 5004,
    errors.TooLarge: 3006,
    errors.Unauthenticated: 10000,
    errors.InsufficientCredits: 3036,
    errors.BudgetExceeded: 3036,
    errors.RateLimited: 3040,
    errors.PermissionDenied: 5018,
    errors.Expired: 3007,
    errors.Cancelled: 3008,
    errors.QueueFull: 3040,
    errors.Unavailable: 3040,
    errors.EngineBusy: 3040,
}
_NO_SUCH_MODEL = 5007


def native_envelope(error: errors.TramError) -> dict[str, Any]:
    return {"result": None, "success": False, "errors": native_errors(error), "messages": []}


def native_errors(error: errors.TramError) -> list[dict[str, Any]]:
    numbers = (_NATIVE_CODES[kind] for kind in type(error).__mro__ if kind in _NATIVE_CODES)
    number = _NO_SUCH_MODEL if error.own_code == "model_not_found" else next(numbers, wire_of(error).status)
    return [{"code": number, "message": error.message}]


def respond(request: Request, error: errors.TramError, *, again: bool = True) -> Response:
    """`again` False: the same request would be told the same."""
    wire = wire_of(error)
    told = native_envelope(error) if _NATIVE_PATH in request.scope["path"] else envelope(error)
    headers = _advice(error, wire) if again and wire.again else {"x-should-retry": "false"}
    return Response(orjson.dumps(told), wire.status, headers=headers, media_type="application/json")


def _advice(error: errors.TramError, wire: Wire) -> dict[str, str]:
    """What OpenAI's clients go by before they try again."""
    wait_s = getattr(error, "retry_after_s", RETRY_AFTER_S if wire.status == 503 else None)  # noqa: PLR2004
    if wait_s is None:
        return {}
    wait_ms = max(1, math.ceil(min(wait_s, RETRY_MOST_S) * 1000))
    return {"retry-after": str(math.ceil(wait_ms / 1000)), "retry-after-ms": str(wait_ms)}


async def handle(request: Request, error: Exception) -> Response:
    """How a job ended stays true for the key that it was asked under; whatever else went wrong may go right the next time."""
    assert isinstance(error, errors.TramError)
    REFUSALS.labels(error.own_code).inc()
    return respond(request, error, again=not (error.ended and "idempotency-key" in request.headers))
