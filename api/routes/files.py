"""/v1/files: what batches and evals read, and what batches write.  OpenAI's; uploads and downloads flow through, and are never held."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request
from sqlalchemy.orm import Session
from starlette.responses import Response, StreamingResponse

from api.answers import json_response, page_of
from api.deps import State, caller_of, key_of, state_of
from api.multipart import Form, form_of
from infra.clock import now_ms
from infra.objects import read
from models import files
from models.errors import InvalidRequest, NotFound, Unavailable
from models.files import NewFile, Purpose, object_key
from models.idempotency import store_once
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
    state, caller, key = state_of(request), await caller_of(request), key_of(request)
    coming = _Coming(form_of(request, state.settings.max_file_bytes), caller.account_id, key, files.new_id(), now_ms())
    begun = partial(files.begin, file_id=coming.file_id, account_id=caller.account_id, now_ms=coming.created_ms)
    await state.database.write(begun)
    made = None
    try:
        made = await _take_in(state, coming)
    finally:
        if made != coming.file_id:
            give_up = partial(files.give_up, file_id=coming.file_id, now_ms=now_ms())
            await asyncio.shield(state.database.write(give_up))
    headers = {} if made == coming.file_id else {"idempotent-replayed": "true"}
    return json_response(file_view(await _found(state, caller.account_id, made)), headers=headers)


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
    """At once for whoever asks; its bytes are gone a few seconds later.  A batch that has read it goes on."""
    state, caller = state_of(request), await caller_of(request)
    verb = partial(files.delete, account_id=caller.account_id, file_id=file_id, now_ms=now_ms())
    if not await state.database.write(verb):
        raise _unknown(file_id)
    return json_response({"id": file_id, "object": "file", "deleted": True})


@dataclass(frozen=True, slots=True)
class _Coming:
    form: Form
    account_id: str
    key: str | None
    file_id: str
    created_ms: int

    async def pieces(self, digest: "blake2b") -> AsyncIterator[bytes]:
        async for piece in self.form.pieces():
            digest.update(piece)
            yield piece


async def _take_in(state: State, coming: _Coming) -> str:
    """The id of the file that the request stands for.  Raises InvalidRequest and its kin, Unavailable."""
    form, digest = coming.form, blake2b(digest_size=16)
    try:
        async with asyncio.timeout(UPLOAD_S):
            size = await state.objects.put_stream(object_key(coming.account_id, coming.file_id), coming.pieces(digest))
    except TimeoutError:
        raise InvalidRequest(f"file: did not come within {UPLOAD_S} s", param="file") from None
    told = validated(FileForm, form.fields)
    expires = None if told.kept_s is None else coming.created_ms + told.kept_s * 1000
    new = NewFile(coming.file_id, form.filename, told.purpose, size, expires)
    digest.update(repr((form.filename, sorted(form.fields.items()))).encode())
    made = await state.database.write(partial(_store, new=new, coming=coming, digest_of=digest.hexdigest()))
    if made is None:
        raise Unavailable("the upload took too long and was given up")
    return made


def _store(session: Session, new: NewFile, coming: _Coming, digest_of: str) -> str | None:
    if coming.key is None:
        return new.id if files.store(session, new) else None
    return store_once(session, new, coming.account_id, coming.key, digest_of, coming.created_ms)


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
