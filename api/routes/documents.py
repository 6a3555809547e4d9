"""/openapi.json, /docs and /llms.txt: what this service is, for programs, for people and for models.  None of them asks for a key."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from api.answers import json_response
from api.deps import state_of

router = APIRouter()


@router.get("/openapi.json", summary="This document")
async def openapi_document(request: Request) -> Response:
    return json_response(await _document(request))


@router.get("/docs", summary="The same as a page, for people")
async def reference_page(request: Request) -> Response:
    from api import pages  # noqa: PLC0415 -- as below

    return HTMLResponse(await run_in_threadpool(pages.reference, await _document(request)))


@router.get("/llms.txt", summary="What this service is, for language models")
async def llms_text(request: Request) -> Response:
    from api import pages  # noqa: PLC0415 -- as below

    cards = state_of(request).fleet.view.cards.values()
    return PlainTextResponse(pages.llms(await _document(request), cards))


async def _document(request: Request) -> dict[str, Any]:
    from api import openapi  # noqa: PLC0415 -- a start does not wait for what few ask for

    return await run_in_threadpool(openapi.document, request.app)
