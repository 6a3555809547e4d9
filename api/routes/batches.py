"""/v1/batches: the rows of a file, answered by tomorrow or next week.  OpenAI's, with windows from an hour to a week, results that can
be read while it runs, progress as server-sent events, and a webhook of its own.
"""

from functools import partial
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.acceptance import Asked, made_before
from api.answers import json_response, page_named, page_of, window
from api.deps import State, body_of, caller_of, key_of, state_of
from api.progress import progress
from infra import batch_results
from infra.clock import now_ms
from infra.outbound import check_url
from models import batches, files, ids
from models.accounts import Caller
from models.batch_input import BYTES_MOST
from models.batches import NewBatch, begin
from models.errors import Conflict, InvalidRequest, NotFound
from models.files import BATCH_KEPT_S, Purpose, new_id
from models.idempotency import begin_once, digest
from models.listings import LIMIT_MOST, Window, page
from models.tables.batches import Batch, BatchKind, BatchState
from models.tables.jobs import Door
from models.wire.batches import BatchRequest, batch_view, line_id, number_of, seconds
from models.wire.problems import validated

router = APIRouter(prefix="/v1/batches")
_STOPPING = {BatchState.CANCELLING, BatchState.CANCELLED}


@router.post("", summary="Start a batch")
async def create_batch(request: Request) -> Response:
    """The file is looked at afterwards: what is wrong with it is told by the batch, with the line's number."""
    state, caller, key = state_of(request), await caller_of(request), key_of(request)
    body = await body_of(request)
    asked = None if key is None else Asked(caller.account_id, key, digest(Door.BATCH, body))
    if asked and (known := await made_before(state, asked)):
        return await _told(state, caller, known, again=True)
    wanted = validated(BatchRequest, body)
    if wanted.webhook_url is not None:
        check_url(wanted.webhook_url, state.settings.webhook_networks)
    await _check_file(state, caller, wanted.input_file_id)
    new = _new(caller, wanted, now_ms())
    made = await state.database.write(partial(_begin, new=new, asked=asked))
    return await _told(state, caller, made, again=made != new.id)


@router.get("", summary="List batches")
async def list_batches(request: Request, pages: Annotated[Window, Depends(window)]) -> Response:
    state, caller = state_of(request), await caller_of(request)
    mine = Batch.kind == BatchKind.FILE
    found = await state.database.read(lambda session: page(session, Batch, caller.account_id, pages, mine))
    return page_of([batch_view(batch) for batch in found.rows], has_more=found.has_more)


@router.get("/{batch_id}", summary="Retrieve a batch")
async def retrieve_batch(request: Request, batch_id: str) -> Response:
    return await _told(state_of(request), await caller_of(request), batch_id)


@router.post("/{batch_id}/cancel", summary="Cancel a batch")
async def cancel_batch(request: Request, batch_id: str) -> Response:
    """Rows that wait do not run, those that run are stopped; what was answered is in its files, once it is `cancelled`."""
    state, caller = state_of(request), await caller_of(request)
    verb = partial(batches.cancel, account_id=caller.account_id, kind=BatchKind.FILE, now_ms=now_ms())
    left = await state.database.write(partial(verb, batch_id=batch_id))
    if left is None:
        raise _unknown(batch_id)
    if left not in _STOPPING:
        raise Conflict(f"a batch that is {left} cannot be cancelled", param="batch_id")
    return await _told(state, caller, batch_id)


@router.get("/{batch_id}/results", summary="Read a batch's results so far")
async def list_results(
    request: Request,
    batch_id: str,
    after: Annotated[str | None, Query(max_length=64, description="The last id of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=LIMIT_MOST)] = LIMIT_MOST,
) -> Response:
    """The lines of its files, in the order in which rows ended: while it runs, `after` finds what has come since.

    Where answers are large, a page has fewer lines than its limit.
    """
    state, caller = state_of(request), await caller_of(request)
    batch = await _found(state, caller, batch_id)
    number = None if after is None else number_of(batch.id, after)
    if after is not None and number is None:
        raise InvalidRequest("after: is no line of this batch", param="after")
    told, has_more = await batch_results.page(state.database, state.objects, batch, number, limit)
    names = [line_id(batch.id, each) for each in told]
    return page_named(names, [orjson.Fragment(text) for text in told.values()], has_more=has_more)


@router.get("/{batch_id}/events", summary="Follow a batch's progress")
async def follow_batch(request: Request, batch_id: str) -> Response:
    state, caller = state_of(request), await caller_of(request)
    look = partial(batches.find, account_id=caller.account_id, batch_id=batch_id, kind=BatchKind.FILE)
    return await progress(state, look, _unknown(batch_id))


async def _check_file(state: State, caller: Caller, file_id: str) -> None:
    find = partial(files.find, account_id=caller.account_id, file_id=file_id, now_ms=now_ms())
    file = await state.database.read(find)
    if file is None:
        raise NotFound(f"there is no file {file_id!r}", param="input_file_id")
    if file.purpose != Purpose.BATCH:
        raise InvalidRequest(f"input_file_id: its purpose is {file.purpose}, not batch", param="input_file_id")
    if file.bytes > BYTES_MOST:
        raise InvalidRequest(f"input_file_id: has more than {BYTES_MOST} bytes", param="input_file_id")


def _new(caller: Caller, wanted: BatchRequest, at_ms: int) -> NewBatch:
    kept = wanted.output_expires_after
    spec = wanted.model_dump(include={"input_file_id", "endpoint", "completion_window"})
    spec |= {"output_file_id": new_id(), "error_file_id": new_id(), "kept_s": kept.seconds if kept else BATCH_KEPT_S}
    return NewBatch(
        id=ids.new("batch"),
        account_id=caller.account_id,
        kind=BatchKind.FILE,
        spec=spec,
        created_ms=at_ms,
        tag=caller.tag,
        meta=wanted.metadata or {},
        webhook_url=wanted.webhook_url,
        expires_ms=at_ms + seconds(wanted.completion_window) * 1000,
    )


def _begin(session: Session, new: NewBatch, asked: Asked | None) -> str:
    """The id of the batch that the request stands for."""
    if asked is None:
        begin(session, new)
        return new.id
    return begin_once(session, new, asked.key, asked.digest_of)


async def _told(state: State, caller: Caller, batch_id: str, *, again: bool = False) -> Response:
    headers: dict[str, Any] = {"idempotent-replayed": "true"} if again else {}
    return json_response(batch_view(await _found(state, caller, batch_id)), headers=headers)


async def _found(state: State, caller: Caller, batch_id: str) -> Batch:
    find = partial(batches.find, account_id=caller.account_id, batch_id=batch_id, kind=BatchKind.FILE)
    found = await state.database.read(find)
    if found is None:
        raise _unknown(batch_id)
    return found


def _unknown(batch_id: str) -> NotFound:
    return NotFound(f"there is no batch {batch_id!r}", param="batch_id")
