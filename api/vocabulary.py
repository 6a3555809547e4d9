"""Which headers, query parameters and codes are there?  What each says, for `api.openapi`, under the names that routes have for them.

Relies on tests/api/test_openapi.py, which fails for what is sent and not told here.
"""

from typing import Any

from models import errors
from models.idempotency import LONGEST_KEY
from models.wire.accounts import TAG

_RATES = {
    f"x-ratelimit-{what}-{kind}": f"{said} {kind}, where the account's rate of these is limited"
    for kind in ("requests", "tokens")
    for what, said in (("limit", "Per minute:"), ("remaining", "Left now:"), ("reset", "Time until all are left:"))
}
HEADERS = {
    "x-request-id": "Yours is echoed, else one is made; it is in the log",
    "openai-processing-ms": "Milliseconds to the answer's first word",
    "x-tram-job": "The job behind the answer: `GET /v1/jobs/{id}` works on it",
    "x-queue-position": "Jobs that go before this one; left out where Redis could not tell",
    "x-queue-wait-ms": "Milliseconds for which the job was queued",
    "idempotent-replayed": "`true` where an equal request with the same Idempotency-Key came before",
    "location": "Where the new thing is",
    "retry-after": "Seconds to wait before trying again",
    "retry-after-ms": "The same in milliseconds",
    "x-should-retry": "`false` where OpenAI's clients would try again in vain",
    "x-accel-buffering": "`no`: nginx passes tokens on as they come",
    "cache-control": "`no-cache`",
    "allow": "The methods that there are",
    "content-length": "The file's size in bytes",
    "content-disposition": "The file's name",
    "idempotency-key": "Makes the request once: sent again within a day it joins what it made",
    "last-event-id": "Go on behind this event",
    "x-aig-tag": "What the usage is counted under, beside its account",
} | _RATES
"""What each header says; the texts of answers and requests alike."""
EVERYWHERE = ("x-request-id", "openai-processing-ms")
RATES = tuple(_RATES)
TAKEN: dict[str, dict[str, Any]] = {
    "idempotency-key": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY},
    "last-event-id": {"type": "string", "pattern": "^[0-9]{1,9}-[0-9]{1,9}$"},
    "x-aig-tag": {"type": "string", "pattern": f"^({TAG.pattern})?$"},
}
"""What of a request's header is taken, where not any text is."""
QUERY = {
    "metadata": "`metadata[name]=value`: only those with this metadata",
    "last_event_id": "As the header Last-Event-ID, which goes first",
}
_LATER = ("retry-after", "retry-after-ms")
_VAIN = ("x-should-retry",)
ADVICE: dict[int, tuple[str, ...]] = {
    400: _VAIN,
    402: (*_VAIN, *RATES),
    403: _VAIN,
    409: _VAIN,
    429: (*_LATER, *RATES),
    500: _VAIN,
    503: (*_LATER, *_VAIN),
    504: _VAIN,
}
"""Headers of errors, by status."""
SELDOM = {
    **dict.fromkeys(("idempotent-replayed", "x-tram-job", "x-queue-position", "x-queue-wait-ms", *RATES), range(600)),
    "location": (200,),
    "openai-processing-ms": (500,),
    "x-should-retry": (400, 500, 503),
    **dict.fromkeys(_LATER, (503,)),
}
"""Where a header is not on every answer.  Who asks with a key for what has ended is advised against it, whatever the status."""

CODES: dict[type[errors.TramError], tuple[str, ...]] = {
    errors.InvalidRequest: (
        *("context_length_exceeded", "invalid_http", "invalid_image_url", "invalid_json", "method_not_allowed"),
        *("unsupported_content_type", "unsupported_parameter"),
    ),
    errors.Unauthenticated: ("missing_api_key",),
    errors.PermissionDenied: ("model_not_allowed",),
    errors.NotFound: (
        *("answer_not_stored", "batch_not_found", "job_not_found", "model_not_found", "unknown_endpoint"),
    ),
    errors.Conflict: ("still_running",),
    errors.Unavailable: ("no_worker",),
}
"""Beside each class's own."""
EVENT_HEADERS = {
    "webhook-id": "The event's id: the same at every attempt",
    "webhook-timestamp": "Unix time in seconds of this attempt",
    "webhook-signature": "Standard Webhooks: `v1,` and the HMAC-SHA-256 of `id.timestamp.body`; two during a rotation",
    "x-gateway-signature": "AIGateway's: `t=...,v1=...`, from the same secret",
}
