"""What does each route take and answer?  A line a route; `api.openapi` makes the document from it.

To document a new route: one line in `ROUTES`, and a shape in `models.wire.shapes` where its answer is a new one.  What
headers and codes say stands in `api.vocabulary`.  Tests fail for whatever is sent and not told in either.
"""

from dataclasses import dataclass

from pydantic import BaseModel

from api.vocabulary import RATES
from models.batches import ENDED
from models.lifecycle import FINAL
from models.webhooks import completion_event
from models.wire.accounts import NewSubAccount, Rotation, SubAccountUpdate
from models.wire.batches import BatchRequest
from models.wire.chat import ChatRequest, JobRequest
from models.wire.completions import CompletionUpdate
from models.wire.conversations import ConversationUpdate, NewConversation
from models.wire.evals import EvalUpdate, RunRequest
from models.wire.replays import ReplayRequest
from models.wire.shapes.accounts import (
    Balance,
    CreatedSubAccount,
    DeletedSubAccount,
    RecentUsage,
    RotatedKey,
    SubAccount,
    UsageBySubAccount,
    UsageByTag,
)
from models.wire.shapes.batches import BatchLine, FileBatch, Progress, ProgressEvent
from models.wire.shapes.chat import (
    ChatCompletion,
    ChatCompletionChunk,
    DeletedCompletion,
    Error,
    StoredCompletion,
    StoredMessage,
)
from models.wire.shapes.conversations import (
    BranchMessages,
    Conversation,
    ConversationImport,
    DeletedConversation,
    WholeConversation,
)
from models.wire.shapes.evals import (
    DeletedEval,
    DeletedRun,
    Eval,
    EvalBody,
    EvalComparison,
    EvalRun,
    OutputItem,
)
from models.wire.shapes.files import DeletedFile, File, SignedLink, Upload
from models.wire.shapes.native import NativeAnswer, NativeBody, NativeChunk, NativeError, NativeWaiting
from models.wire.shapes.records import Job, JobEnd
from models.wire.shapes.replays import Replay, ReplayedTurns
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
from models.wire.shapes.texts import TextBody, TextChunk, TextCompletion

Shape = type[BaseModel]
JSONL, PARQUET = "application/jsonl", "application/vnd.apache.parquet"
TEXT, METRICS, HTML, JSON, STREAM = (
    "text/plain",
    "text/plain; version=1.0.0",
    "text/html",
    "application/json",
    "text/event-stream",
)
FORM, BYTES = "multipart/form-data", "application/octet-stream"


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
    kinds: tuple[str, ...] = ()
    """Further content types that the answer may have."""
    file: bool = False
    """The body is a file's bytes."""
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
    takes_in: str = JSON
    """The content type of the body."""


ANY = (400, 401, 413, 500, 503)
"""What any route with a key may answer: for an address or headers beyond all bounds, a wrong key, a fault of ours, no database."""
MAKES_WORK = (402, 403, 404, 422, 429)
HELD = (404, 409, 504)
"""Who holds the line is told by the status how the job ended."""

_CHUNKS = (ChatCompletionChunk, Error)
_JOB = ("x-tram-job", "x-queue-wait-ms")
_ONCE = ("idempotent-replayed", *RATES)
_LATER = ("location", "x-queue-position", *_ONCE)
_WORK = ("idempotency-key", "x-aig-tag")
_CHATS = "/v1/chat/completions"
_ACCOUNTS = "/v1/sub-accounts"
_EVALS, _RUNS = "/v1/evals", "/v1/evals/{eval_id}/runs"
_NAMED = ("location", "idempotent-replayed")
_TALKS, _TALK = "/v1/conversations", "/v1/conversations/{conversation_id}"
_NATIVE = Route(
    "Cloudflare",
    NativeAnswer,
    NativeBody,
    (*HELD, *MAKES_WORK),
    also=((202, NativeWaiting),),
    streams=(NativeChunk, NativeError),
    takes=_WORK,
    gives=(*_JOB, *_ONCE),
    refusal=NativeError,
)
ROUTES: dict[str, Route] = {
    f"POST {_CHATS}": Route(
        "Chat",
        ChatCompletion,
        ChatRequest,
        (*HELD, *MAKES_WORK),
        streams=_CHUNKS,
        also=((202, StoredCompletion),),
        takes=_WORK,
        gives=(*_JOB, *_LATER),
    ),
    f"GET {_CHATS}": Route("Chat", StoredCompletion, page=True, query=("metadata",)),
    f"GET {_CHATS}/{{name}}": Route(
        "Chat", StoredCompletion, None, HELD, streams=_CHUNKS, takes=("last-event-id",), gives=_JOB
    ),
    f"POST {_CHATS}/{{name}}": Route("Chat", StoredCompletion, CompletionUpdate, (404,)),
    f"DELETE {_CHATS}/{{name}}": Route("Chat", DeletedCompletion, None, (404, 409)),
    f"GET {_CHATS}/{{name}}/messages": Route("Chat", StoredMessage, None, (404,), page=True),
    f"POST {_CHATS}/{{name}}/cancel": Route("Chat", StoredCompletion, None, (404,)),
    "POST /v1/completions": Route(
        "Texts",
        TextCompletion,
        TextBody,
        (*HELD, *MAKES_WORK),
        streams=(TextChunk, Error),
        takes=_WORK,
        gives=(*_JOB, *_ONCE),
    ),
    "POST /ai/run/{model}": _NATIVE,
    "POST /client/v4/accounts/{account}/ai/run/{model}": _NATIVE,
    "POST /v1/jobs": Route("Jobs", Job, JobRequest, MAKES_WORK, status=202, takes=_WORK, gives=_LATER),
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
        gives=("x-queue-wait-ms",),
        query=("last_event_id",),
    ),
    "GET /v1/jobs/{job_id}/replay": Route(
        "Jobs",
        STREAM,
        None,
        (404, 409),
        streams=(ChatCompletionChunk, JobEnd),
        takes=("last-event-id",),
        gives=("x-queue-wait-ms",),
    ),
    f"GET {_TALKS}/export": Route("Conversations", JSONL, kinds=(JSON, PARQUET), query=("metadata",)),
    f"POST {_TALKS}/import": Route("Conversations", ConversationImport, None, (404,), file=True),
    f"POST {_TALKS}": Route("Conversations", Conversation, NewConversation),
    f"GET {_TALKS}": Route("Conversations", Conversation, page=True, query=("metadata",)),
    f"GET {_TALK}": Route("Conversations", WholeConversation, None, (404,)),
    f"POST {_TALK}": Route("Conversations", Conversation, ConversationUpdate, (404,)),
    f"PATCH {_TALK}": Route("Conversations", Conversation, ConversationUpdate, (404,)),
    f"DELETE {_TALK}": Route("Conversations", DeletedConversation, None, (404, 409)),
    f"GET {_TALK}/messages": Route("Conversations", BranchMessages, None, (404,)),
    "POST /v1/replays": Route(
        "Replays",
        Replay,
        ReplayRequest,
        (404, 409, 422),
        status=202,
        takes=_WORK,
        gives=("location", "idempotent-replayed"),
    ),
    "GET /v1/replays": Route("Replays", Replay, page=True),
    "GET /v1/replays/{replay_id}": Route("Replays", Replay, None, (404,)),
    "GET /v1/replays/{replay_id}/turns": Route("Replays", ReplayedTurns, None, (404,)),
    "GET /v1/replays/{replay_id}/events": Route("Replays", STREAM, None, (404,), streams=(Progress,)),
    "POST /v1/replays/{replay_id}/cancel": Route("Replays", Replay, None, (404,)),
    "POST /v1/files": Route(
        "Files", File, Upload, (422,), takes=("idempotency-key",), gives=("idempotent-replayed",), takes_in=FORM
    ),
    "GET /v1/files": Route("Files", File, page=True),
    "GET /v1/files/{file_id}": Route("Files", File, None, (404,)),
    "GET /v1/files/{file_id}/content": Route(
        "Files", BYTES, None, (404,), gives=("content-length", "content-disposition")
    ),
    "DELETE /v1/files/{file_id}": Route("Files", DeletedFile, None, (404,)),
    "GET /v1/files/jobs/{job_id}/{filename}": Route("Files", BYTES, None, (404,)),
    "GET /v1/files/jobs/{job_id}/{filename}/signed": Route("Files", SignedLink, None, (404,)),
    "GET /v1/files/signed/{job_id}/{filename}": Route("Files", BYTES, None, (400, 403, 404, 500, 503), open=True),
    f"POST {_EVALS}": Route(
        "Evals", Eval, EvalBody, (403, 404, 422), status=201, takes=("idempotency-key",), gives=_NAMED
    ),
    f"GET {_EVALS}": Route("Evals", Eval, page=True),
    f"GET {_EVALS}/{{eval_id}}": Route("Evals", Eval, None, (404,)),
    f"POST {_EVALS}/{{eval_id}}": Route("Evals", Eval, EvalUpdate, (404,)),
    f"DELETE {_EVALS}/{{eval_id}}": Route("Evals", DeletedEval, None, (404, 409)),
    f"GET {_EVALS}/{{eval_id}}/compare": Route("Evals", EvalComparison, None, (404,)),
    f"POST {_RUNS}": Route(
        "Evals", EvalRun, RunRequest, (403, 404, 422), status=201, takes=("idempotency-key",), gives=_NAMED
    ),
    f"GET {_RUNS}": Route("Evals", EvalRun, None, (404,), page=True),
    f"GET {_RUNS}/{{run_id}}": Route("Evals", EvalRun, None, (404,)),
    f"POST {_RUNS}/{{run_id}}": Route("Evals", EvalRun, None, (404,)),
    f"POST {_RUNS}/{{run_id}}/cancel": Route("Evals", EvalRun, None, (404,)),
    f"DELETE {_RUNS}/{{run_id}}": Route("Evals", DeletedRun, None, (404, 409)),
    f"GET {_RUNS}/{{run_id}}/output_items": Route("Evals", OutputItem, None, (404,), page=True),
    f"GET {_RUNS}/{{run_id}}/output_items/{{item_id}}": Route("Evals", OutputItem, None, (404,)),
    f"GET {_RUNS}/{{run_id}}/events": Route("Evals", STREAM, None, (404,), streams=(Progress,)),
    f"GET {_RUNS}/{{run_id}}/report": Route("Evals", HTML, None, (404,)),
    "POST /v1/batches": Route(
        "Batches", FileBatch, BatchRequest, (404, 422), takes=("idempotency-key",), gives=("idempotent-replayed",)
    ),
    "GET /v1/batches": Route("Batches", FileBatch, page=True),
    "GET /v1/batches/{batch_id}": Route("Batches", FileBatch, None, (404,)),
    "POST /v1/batches/{batch_id}/cancel": Route("Batches", FileBatch, None, (404, 409)),
    "GET /v1/batches/{batch_id}/results": Route("Batches", BatchLine, None, (404,), page=True),
    "GET /v1/batches/{batch_id}/events": Route("Batches", STREAM, None, (404,), streams=(Progress,)),
    "GET /v1/webhook_deliveries": Route("Webhooks", WebhookDelivery, page=True),
    "GET /v1/webhook_deliveries/{delivery_id}": Route("Webhooks", WebhookDelivery, None, (404,)),
    "GET /v1/webhook-secret": Route("Webhooks", WebhookSecret),
    "POST /v1/webhook-secret/rotate": Route("Webhooks", RotatedSecret),
    f"POST {_ACCOUNTS}": Route("Accounts", CreatedSubAccount, NewSubAccount, (403,), status=201, gives=("location",)),
    f"GET {_ACCOUNTS}": Route("Accounts", SubAccount, None, (403,), page=True),
    f"GET {_ACCOUNTS}/{{account_id}}": Route("Accounts", SubAccount, None, (403, 404)),
    f"PATCH {_ACCOUNTS}/{{account_id}}": Route("Accounts", SubAccount, SubAccountUpdate, (403, 404)),
    f"DELETE {_ACCOUNTS}/{{account_id}}": Route("Accounts", DeletedSubAccount, None, (403, 404)),
    f"POST {_ACCOUNTS}/{{account_id}}/keys/rotate": Route("Accounts", RotatedKey, Rotation, (403, 404)),
    "GET /v1/usage/by-tag": Route("Usage", UsageByTag),
    "GET /v1/usage/by-sub-account": Route("Usage", UsageBySubAccount, None, (403,)),
    "GET /v1/usage/recent": Route("Usage", RecentUsage),
    "GET /v1/balance": Route("Usage", Balance),
    "GET /v1/models": Route("Models", ModelList),
    "GET /v1/models/{name}": Route("Models", Model, None, (404,)),
    "GET /health": Route("Service", Health, open=True),
    "GET /ready": Route("Service", Readiness, also=((503, Readiness),), open=True),
    "GET /metrics": Route("Service", METRICS, open=True),
    "GET /openapi.json": Route("Service", JSON, open=True),
    "GET /docs": Route("Service", HTML, open=True),
    "GET /llms.txt": Route("Service", TEXT, open=True),
}

EVENTS: dict[str, Shape] = {
    **{completion_event(state): JobEvent for state in sorted(FINAL)},
    **{f"batch.{state}": ProgressEvent for state in sorted(ENDED)},
    **{f"eval.run.{word}": ProgressEvent for word in ("canceled", "failed", "succeeded")},
    **dict.fromkeys(("replay.cancelled", "replay.completed"), ProgressEvent),
}
"""What webhooks are sent, by its type."""
