"""/v1/files/jobs/…: a job's answer as a file, with a key or by a signed link.  AIGateway's, whose jobs make pictures and sounds; here
a job makes `result.json`, the completion, and `answer.txt`, what its first choice says.
"""

from functools import partial
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.answers import json_response
from api.deps import State, caller_of, check_address, state_of
from api.records import job_of
from infra.clock import now_ms
from infra.results import result_of
from models import ids, links
from models.errors import NotFound
from models.tables.access import Account
from models.tables.jobs import Job

router = APIRouter(prefix="/v1/files")
_KINDS = {"result.json": "application/json", "answer.txt": "text/plain; charset=utf-8"}
_LATEST_S = 253_402_300_799  # the end of the year 9999


@router.get("/jobs/{job_id}/{filename}", summary="Download a job's answer as a file")
async def download_job_file(request: Request, job_id: str, filename: str) -> Response:
    state, caller = state_of(request), await caller_of(request)
    job = await job_of(state, caller.account_id, ids.job_of(job_id))
    return await _file(state, job, filename)


@router.get("/jobs/{job_id}/{filename}/signed", summary="Make a link to a job's answer that needs no key")
async def sign_job_file(
    request: Request,
    job_id: str,
    filename: str,
    expires_in: Annotated[int, Query(ge=links.LEAST_S, le=links.MOST_S, description="Seconds")] = 3600,
) -> Response:
    state, caller = state_of(request), await caller_of(request)
    job = await job_of(state, caller.account_id, ids.job_of(job_id))
    await _file(state, job, filename)
    path, expires_s = f"/v1/files/signed/{job.id}/{filename}", now_ms() // 1000 + expires_in
    signature = links.signature(caller.salt, path, expires_s)
    url = f"{state.settings.url}{path}?expires={expires_s}&signature={signature}"
    return json_response({"url": url, "expires_at": expires_s, "expires_in": expires_in})


@router.get("/signed/{job_id}/{filename}", summary="Download a job's answer by a signed link")
async def download_by_link(
    request: Request,
    job_id: str,
    filename: str,
    expires: Annotated[int, Query(ge=0, le=_LATEST_S, description="Unix time in seconds")],
    signature: Annotated[str, Query(max_length=64)],
) -> Response:
    check_address(request)  # nobody's key is asked for, where else it would be
    state = state_of(request)
    job, salt = await state.database.read(partial(_signed, job_id=job_id))
    links.check(salt, request.url.path, expires, signature, now_ms())
    return await _file(state, job, filename)


async def _file(state: State, job: Job, filename: str) -> Response:
    if filename not in _KINDS:
        raise NotFound(f"a job has {' and '.join(_KINDS)}", param="filename")
    result = await result_of(state.objects, job)
    if result is None:
        raise NotFound("there is no answer (yet)", param="job_id")
    return Response(_told(result["completion"], filename), media_type=_KINDS[filename])


def _told(completion: dict[str, Any], filename: str) -> bytes:
    if filename == "result.json":
        return orjson.dumps(completion)
    text: str = completion["choices"][0]["message"].get("content") or ""
    return text.encode()


def _signed(session: Session, job_id: str) -> tuple[Job, bytes]:
    job = session.get(Job, job_id)
    account = None if job is None or job.deleted_ms is not None else session.get(Account, job.account_id)
    if job is None or account is None or account.closed_ms is not None:
        raise NotFound("there is no such file", param="job_id")
    return job, account.salt
