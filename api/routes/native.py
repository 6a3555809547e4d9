"""POST /ai/run/{model}: Cloudflare's own way to ask, below its own addresses too; whose account it is, the key says.

With `queueRequest` a body's `requests` become jobs of which none is waited for; their batch is nowhere written down, its id names them.
"""

from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.acceptance import accept, accept_all, headers_of
from api.answers import json_response
from api.deps import State, body_of, caller_of, key_of, state_of
from api.dialects import native
from api.errors import native_errors
from api.held import answer, by_prompt
from infra.results import result_of
from models import ids
from models.accounts import Caller
from models.errors import Cancelled, InvalidRequest, NotFound, TramError, from_json
from models.lifecycle import FINAL, JobState
from models.listings import these
from models.placement import Tier
from models.tables.jobs import Door, Job
from models.wire import native as wire
from models.wire.problems import validated

router = APIRouter()
_COUNTS = ("prompt_tokens", "completion_tokens")
_SHOWN = 64  # characters of a caller's own that an error repeats
Queue = Annotated[
    bool, Query(alias="queueRequest", description="Take `requests` into the queue, or tell of `request_id`")
]


@router.post("/ai/run/{model:path}", summary="Ask a model, as with Cloudflare's Workers AI")
async def run_model(request: Request, model: str, queue: Queue = False) -> Response:
    state, caller, key = state_of(request), await caller_of(request), key_of(request)
    body = await body_of(request)
    if "request_id" in body:
        return await _told(state, caller, model, validated(wire.BatchPoll, body).request_id)
    if queue or body.get("queueRequest") or "requests" in body:
        return await _queued(state, caller, model, body, key=key, wanted=queue)
    chat = wire.chat_of(body, model)
    with by_prompt(body):
        accepted = await accept(state, caller, chat, Door.CHAT, key)
    dialect, stream = native(as_json=wire.wants_json(chat)), bool(chat.get("stream"))
    return await answer(request, state, caller, accepted, dialect, stream=stream, stays=key is not None)


@router.post(
    "/client/v4/accounts/{account}/ai/run/{model:path}", summary="The same, at the address it has with Cloudflare"
)
async def run_model_of_account(request: Request, account: str, model: str, queue: Queue = False) -> Response:  # noqa: ARG001
    return await run_model(request, model, queue)


async def _queued(
    state: State, caller: Caller, model: str, body: dict[str, Any], *, key: str | None, wanted: bool
) -> Response:
    batch = validated(wire.BatchRequest, body)
    if not (wanted or batch.queueRequest):
        raise InvalidRequest("requests: need queueRequest=true", param="requests")
    first = await accept_all(state, caller, [partial(_chat, body, model) for body in batch.requests], key)
    name = ids.series_name(first.job_id, len(batch.requests))
    return json_response(wire.succeeded(_waiting("queued", name, model)), 202, headers_of(first))


def _chat(body: Mapping[str, Any], model: str) -> dict[str, Any]:
    """A batch's request, for which nobody waits: it makes room for those for whom somebody does."""
    chat = {"service_tier": Tier.FLEX.value} | wire.chat_of(body, model)
    reference = validated(wire.Referred, body).external_reference
    chat.pop(wire.REFERENCE, None)
    if reference is not None:
        chat["metadata"] = (chat.get("metadata") or {}) | {wire.REFERENCE: reference}
    return chat


async def _told(state: State, caller: Caller, model: str, name: str) -> Response:
    wanted = ids.series_named("job", name)
    rows = await state.database.read(partial(these, account_id=caller.account_id, names=wanted))
    if not rows or any(job.model != model for job in rows):
        raise NotFound(f"there is no batch {name[:_SHOWN]!r} of this model", param="request_id", code="batch_not_found")
    if open_ones := [job for job in rows if job.state not in FINAL]:
        begun = len(open_ones) < len(rows) or any(job.state is JobState.IN_PROGRESS for job in open_ones)
        return json_response(wire.succeeded(_waiting("running" if begun else "queued", name, model)), 202)
    known = {job.id: job for job in rows}
    responses = [await _response(state, number, known.get(each)) for number, each in enumerate(wanted)]
    usage = Counter[str]()
    for job in rows:
        usage.update({count: getattr(job, count) for count in _COUNTS})
    told = {"responses": responses, "usage": {**usage, "total_tokens": usage.total()}}
    return json_response(wire.succeeded(told))


def _waiting(status: str, name: str, model: str) -> dict[str, str]:
    return {"status": status, "request_id": name, "model": model}


async def _response(state: State, number: int, job: Job | None) -> dict[str, Any]:
    reference = None if job is None else job.meta.get(wire.REFERENCE)
    told = {"id": number, "external_reference": reference}
    stored = None if job is None else await result_of(state.objects, job)
    if job is not None and stored is not None and job.state is JobState.COMPLETED:
        as_json = wire.wants_json(job.parameters or {})
        return told | {"success": True, "result": wire.result_of(stored["completion"], as_json=as_json)}
    return told | {"success": False, "result": None, "errors": native_errors(_failure(job))}


def _failure(job: Job | None) -> TramError:
    if job is not None and job.error is not None:
        return from_json(job.error)
    if job is not None and job.state is JobState.CANCELLED:
        return Cancelled("the job was cancelled")
    return NotFound("the answer is not stored (any more)", code="answer_not_stored")
