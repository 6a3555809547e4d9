"""What does each route take and answer?  A line a route; `api.openapi` makes the document from it.

To document a new route: one line in `ROUTES`, and a shape in `models.wire.shapes` where its answer is a new one.  A new code of an
error goes into `CODES`, a new header into `HEADERS`.  Tests fail for whatever is sent and not told here.
"""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from models import errors
from models.idempotency import LONGEST_KEY
from models.lifecycle import FINAL
from models.webhooks import completion_event
from models.wire.chat import ChatRequest, JobRequest
from models.wire.completions import CompletionUpdate
from models.wire.replays import ReplayRequest
from models.wire.shapes.chat import (
    ChatCompletion,
    ChatCompletionChunk,
    DeletedCompletion,
    Error,
    StoredCompletion,
    StoredMessage,
)
from models.wire.shapes.records import Conversation, Job, JobEnd, Replay, WholeConversation
from models.wire.shapes.service import (
    Health,
    JobEvent,
    Model,
    ModelList,
    Readiness,
    RotatedSecret,
    WebhookDelivery,
    WebhookSecret,
)

Shape = type[BaseModel]
TEXT, METRICS, HTML, JSON, STREAM = (
    "text/plain",
    "text/plain; version=1.0.0",
    "text/html",
    "application/json",
    "text/event-stream",
)


@dataclass(frozen=True, slots=True)
class Route:
    tag: str
    answer: Shape | str
    """A shape, or the content type of an answer that has none."""
    body: Shape | None = None
    refuses: tuple[int, ...] = ()
    """Statuses of errors beside those that any route with a key may answer."""
    page: bool = False
    """The answer is a page of such shapes."""
    status: int = 200
    also: tuple[tuple[int, Shape | None], ...] = ()
    """Other statuses that are no errors."""
    streams: tuple[Shape, ...] = ()
    """Server-sent events, where they are asked for; what their `data` may be, or it is `[DONE]`."""
    takes: tuple[str, ...] = ()
    """Headers of the request."""
    gives: tuple[str, ...] = ()
    """Headers of the answer, beside x-request-id."""
    query: tuple[str, ...] = ()
    """Parameters that the route reads by itself."""
    refusal: Shape = Error
    """What an error looks like at the doors of others' making."""
    open: bool = False
    """No key is asked for."""


HEADERS = {
    "x-request-id": "Yours is echoed, else one is made; it is in the log",
    "x-tram-job": "The job behind the answer: `GET /v1/jobs/{id}` works on it",
    "idempotent-replayed": "`true` where an equal request with the same Idempotency-Key came before",
    "location": "Where the new thing is",
    "retry-after": "Seconds to wait before trying again",
    "x-should-retry": "`false` where OpenAI's clients would try again in vain",
    "x-accel-buffering": "`no`: nginx passes tokens on as they come",
    "cache-control": "`no-cache`",
    "allow": "The methods that there are",
    "idempotency-key": "Makes the request once: sent again within a day it joins the job that it made",
    "last-event-id": "Go on behind this event",
}
"""What each header says; the texts of answers and requests alike."""
TAKEN: dict[str, dict[str, Any]] = {
    "idempotency-key": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY},
    "last-event-id": {"type": "string", "pattern": "^[0-9]{1,9}-[0-9]{1,9}$"},
}
"""What of a request's header is taken, where not any text is."""
QUERY = {
    "metadata": "`metadata[name]=value`: only those with this metadata",
    "last_event_id": "As the header Last-Event-ID, which goes first",
}
ADVICE = {
    409: ("x-should-retry",),
    429: ("retry-after",),
    503: ("retry-after",),
    504: ("x-should-retry",),
}
"""Headers of errors, by status."""
ANY = (400, 401, 413, 500, 503)
"""What any route with a key may answer: for an address or headers beyond all bounds, a wrong key, a fault of ours, no database."""
MAKES_WORK = (404, 422)
HELD = (404, 409, 504)
"""Who holds the line is told by the status how the job ended."""

CODES: dict[type[errors.TramError], tuple[str, ...]] = {
    errors.InvalidRequest: (
        "context_length_exceeded",
        "invalid_json",
        "method_not_allowed",
        "unsupported_content_type",
        "unsupported_parameter",
    ),
    errors.Unauthenticated: ("missing_api_key",),
    errors.NotFound: ("answer_not_stored", "job_not_found", "model_not_found", "unknown_endpoint"),
    errors.Conflict: ("still_running",),
    errors.Unavailable: ("no_worker",),
}
"""Beside each class's own."""

_CHUNKS = (ChatCompletionChunk, Error)
_JOB = ("x-tram-job",)
_ONCE = ("idempotent-replayed",)
_CHATS = "/v1/chat/completions"
ROUTES: dict[str, Route] = {
    f"POST {_CHATS}": Route(
        "Chat",
        ChatCompletion,
        ChatRequest,
        (*HELD, 422),
        streams=_CHUNKS,
        also=((202, StoredCompletion),),
        takes=("idempotency-key",),
        gives=(*_JOB, *_ONCE),
    ),
    f"GET {_CHATS}": Route("Chat", StoredCompletion, page=True, query=("metadata",)),
    f"GET {_CHATS}/{{name}}": Route(
        "Chat", StoredCompletion, None, HELD, streams=_CHUNKS, takes=("last-event-id",), gives=_JOB
    ),
    f"POST {_CHATS}/{{name}}": Route("Chat", StoredCompletion, CompletionUpdate, (404,)),
    f"DELETE {_CHATS}/{{name}}": Route("Chat", DeletedCompletion, None, (404, 409)),
    f"GET {_CHATS}/{{name}}/messages": Route("Chat", StoredMessage, None, (404,), page=True),
    f"POST {_CHATS}/{{name}}/cancel": Route("Chat", StoredCompletion, None, (404,)),
    "POST /v1/jobs": Route(
        "Jobs", Job, JobRequest, MAKES_WORK, status=202, takes=("idempotency-key",), gives=("location", *_ONCE)
    ),
    "GET /v1/jobs": Route("Jobs", Job, page=True, query=("metadata",)),
    "GET /v1/jobs/{job_id}": Route("Jobs", Job, None, (404,)),
    "DELETE /v1/jobs/{job_id}": Route("Jobs", Job, None, (404,)),
    "GET /v1/jobs/{job_id}/events": Route(
        "Jobs",
        STREAM,
        None,
        (404,),
        also=((204, None),),
        streams=(ChatCompletionChunk, JobEnd),
        takes=("last-event-id",),
        query=("last_event_id",),
    ),
    "GET /v1/conversations": Route("Conversations", Conversation, page=True),
    "GET /v1/conversations/{conversation_id}": Route("Conversations", WholeConversation, None, (404,)),
    "POST /v1/replays": Route("Replays", Replay, ReplayRequest, (404, 409), status=202, gives=("location",)),
    "GET /v1/replays": Route("Replays", Replay, page=True),
    "GET /v1/replays/{replay_id}": Route("Replays", Replay, None, (404,)),
    "GET /v1/webhook_deliveries": Route("Webhooks", WebhookDelivery, page=True),
    "GET /v1/webhook_deliveries/{delivery_id}": Route("Webhooks", WebhookDelivery, None, (404,)),
    "GET /v1/webhook-secret": Route("Webhooks", WebhookSecret),
    "POST /v1/webhook-secret/rotate": Route("Webhooks", RotatedSecret),
    "GET /v1/models": Route("Models", ModelList),
    "GET /v1/models/{name}": Route("Models", Model, None, (404,)),
    "GET /health": Route("Service", Health, open=True),
    "GET /ready": Route("Service", Readiness, also=((503, Readiness),), open=True),
    "GET /metrics": Route("Service", METRICS, open=True),
    "GET /openapi.json": Route("Service", JSON, open=True),
    "GET /docs": Route("Service", HTML, open=True),
    "GET /llms.txt": Route("Service", TEXT, open=True),
}

EVENTS = {completion_event(state): JobEvent for state in sorted(FINAL)}
"""What webhooks are sent, by its type."""
EVENT_HEADERS = {
    "webhook-id": "The event's id: the same at every attempt",
    "webhook-timestamp": "Unix time in seconds of this attempt",
    "webhook-signature": "Standard Webhooks: `v1,` and the HMAC-SHA-256 of `id.timestamp.body`; two during a rotation",
    "x-gateway-signature": "AIGateway's: `t=...,v1=...`, from the same secret",
}

_HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}
EXAMPLES: dict[Shape, dict[str, Any]] = {
    ChatRequest: _HELLO,
    JobRequest: _HELLO | {"metadata": {"order": "4711"}},
    CompletionUpdate: {"metadata": {"rating": "good"}},
    ReplayRequest: {"source_request_id": "job_01ja7q2v7d4m9t8b3x6k5n0w1z", "overrides": {"max_tokens": 20}},
}
