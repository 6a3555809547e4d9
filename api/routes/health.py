"""/health, /ready, /metrics: is this process alive, can it take requests, and what has it done?"""

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text
from starlette.responses import Response

from api.answers import json_response
from api.deps import state_of
from infra.redis import FAULTS
from models.errors import TramError

router = APIRouter()


@router.get("/health", summary="Whether this process answers")
async def health() -> Response:
    return json_response({"status": "ok"})


@router.get("/ready", summary="Whether its database and Redis answer too")
async def ready(request: Request) -> Response:
    state = state_of(request)
    parts = {"database": True, "redis": True}
    try:
        await state.database.read(lambda session: session.execute(text("SELECT 1")).scalar())
    except TramError:
        parts["database"] = False
    try:
        await state.redis.ping()
    except FAULTS:
        parts["redis"] = False
    return json_response(parts, 200 if all(parts.values()) else 503)


@router.get("/metrics", summary="Prometheus metrics of this process")
async def metrics() -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
