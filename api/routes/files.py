"""/v1/files: what batches and evals read, and what batches write.  OpenAI's; uploads and downloads flow through, and are never held."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response, StreamingResponse

from api.answers import json_response, page_of
from api.deps import State, caller_of, state_of
from api.multipart import Form, form_of
from infra.clock import now_ms
from infra.objects import read
from models import files
from models.errors import InvalidRequest, NotFound, Unavailable
from models.files import NewFile, Purpose, object_key
from models.listings import Window, page
from models.tables.files import File
from models.wire.files import FileForm, file_view
from models.wire.problems import validated

router = APIRouter(prefix="/v1/files")
UPLOAD_S = 1_800
"""Half of what upkeep grants an upload; a form that drips in for longer will not end."""
LISTED_MOST = 10_000
"""As with OpenAI."""


def window(
    after: Annotated[str | None, Query(max_length=64, description="The last id of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=LISTED_MOST)] = LISTED_MOST,
    order: Literal["asc", "desc"] = "desc",
) -> Window:
    return Window(after, limit, order == "asc")


@router.post("", summary="Upload a file")
async def upload_file(request: Request) -> Response:
    """A form of `file`, `purpose` and, if wanted, `expires_after[anchor]` and `expires_after[seconds]`, in any order."""
    state, caller = state_of(request), await caller_of(request)
    form, file_id, created = form_of(request, state.settings.max_file_bytes), files.new_id(), now_ms()
    begun = partial(files.begin, file_id=file_id, account_id=caller.account_id, now_ms=created)
    await state.database.write(begun)
    try:
        await _take_in(state, form, object_key(caller.account_id, file_id), file_id, created)
    except BaseException:
        await asyncio.shield(state.database.write(partial(files.give_up, file_id=file_id, now_ms=now_ms())))
        raise
    return json_response(file_view(await _found(state, caller.account_id, file_id)))


@router.get("", summary="List files")
async def list_files(
    request: Request,
    pages: Annotated[Window, Depends(window)],
    purpose: Annotated[Purpose | None, Query()] = None,
) -> Response:
    state, caller = state_of(request), await caller_of(request)
    where = [*files.shown(now_ms())] + ([] if purpose is None else [File.purpose == purpose])
    found = await state.database.read(lambda session: page(session, File, caller.account_id, pages, *where))
    return page_of([file_view(file) for file in found.rows], has_more=found.has_more)


@router.get("/{file_id}", summary="Retrieve a file's description")
async def retrieve_file(request: Request, file_id: str) -> Response:
    state, caller = state_of(request), await caller_of(request)
    return json_response(file_view(await _found(state, caller.account_id, file_id)))


@router.get("/{file_id}/content", summary="Download a file")
async def download_file(request: Request, file_id: str) -> Response:
    state, caller = state_of(request), await caller_of(request)
    file = await _found(state, caller.account_id, file_id)
    pieces = read(state.objects, object_key(file.account_id, file.id), file.bytes)
    first = await anext(pieces, b"")  # a store that is away is told as an error, while that can be told
    headers = {
        "content-length": str(file.bytes),
        "content-disposition": f"attachment; filename*=utf-8''{quote(file.filename)}",
    }
    return StreamingResponse(_behind(first, pieces), headers=headers, media_type="application/octet-stream")


@router.delete("/{file_id}", summary="Delete a file")
async def delete_file(request: Request, file_id: str) -> Response:
    """At once for whoever asks; its bytes are gone a few seconds later.  A batch that was made of it goes on."""
    state, caller = state_of(request), await caller_of(request)
    verb = partial(files.delete, account_id=caller.account_id, file_id=file_id, now_ms=now_ms())
    if not await state.database.write(verb):
        raise _unknown(file_id)
    return json_response({"id": file_id, "object": "file", "deleted": True})


async def _take_in(state: State, form: Form, key: str, file_id: str, created_ms: int) -> None:
    try:
        async with asyncio.timeout(UPLOAD_S):
            size = await state.objects.put_stream(key, form.pieces())
    except TimeoutError:
        raise InvalidRequest(f"file: did not come within {UPLOAD_S} s", param="file") from None
    told = validated(FileForm, form.fields)
    expires = None if told.kept_s is None else created_ms + told.kept_s * 1000
    new = NewFile(file_id, form.filename, told.purpose, size, expires)
    if not await state.database.write(partial(files.store, new=new)):
        raise Unavailable("the upload took too long and was given up")


async def _found(state: State, account_id: str, file_id: str) -> File:
    found = await state.database.read(partial(files.find, account_id=account_id, file_id=file_id, now_ms=now_ms()))
    if found is None:
        raise _unknown(file_id)
    return found


def _unknown(file_id: str) -> NotFound:
    return NotFound(f"there is no file {file_id!r}", param="file_id")


async def _behind(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece
