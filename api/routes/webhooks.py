"""/v1/webhook_deliveries and /v1/webhook-secret: what was told to whom, and the secret that signs it."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.answers import json_response, page_of, window
from api.deps import caller_of, state_of
from infra.clock import now_ms
from models import accounts, deliveries
from models.errors import NotFound
from models.listings import Window, page
from models.tables.webhooks import Delivery, DeliveryAttempt, DeliveryState
from models.webhooks import SCHEDULE_S, new_secret

router = APIRouter(prefix="/v1")


@router.get("/webhook_deliveries", summary="List webhook deliveries with their attempts")
async def list_deliveries(
    request: Request,
    pages: Annotated[Window, Depends(window)],
    job_id: Annotated[str | None, Query(max_length=64)] = None,
    delivery_state: Annotated[DeliveryState | None, Query(alias="state")] = None,
) -> Response:
    state, caller = state_of(request), await caller_of(request)
    where = [Delivery.job_id == job_id] if job_id else []
    where += [Delivery.state == delivery_state] if delivery_state else []

    def query(session: Session) -> tuple[list[dict[str, Any]], bool]:
        found = page(session, Delivery, caller.account_id, pages, *where)
        tried = deliveries.attempts_of(session, [row.id for row in found.rows])
        return [_delivery(row, tried[row.id]) for row in found.rows], found.has_more

    rows, has_more = await state.database.read(query)
    return page_of(rows, has_more=has_more)


@router.get("/webhook_deliveries/{delivery_id}", summary="Retrieve a webhook delivery")
async def retrieve_delivery(request: Request, delivery_id: str) -> Response:
    state, caller = state_of(request), await caller_of(request)

    def query(session: Session) -> dict[str, Any] | None:
        row = deliveries.find(session, caller.account_id, delivery_id)
        return None if row is None else _delivery(row, deliveries.attempts_of(session, [row.id])[row.id])

    view = await state.database.read(query)
    if view is None:
        raise NotFound(f"there is no delivery {delivery_id!r}", param="delivery_id")
    return json_response(view)


@router.get("/webhook-secret", summary="Read the secret that signs this account's webhooks")
async def read_secret(request: Request) -> Response:
    state, caller = state_of(request), await caller_of(request)
    secrets = await state.database.read(
        partial(accounts.signing_secrets, account_id=caller.account_id, now_ms=now_ms())
    )
    return json_response({"secret": secrets[0], "previous_secret": secrets[1] if len(secrets) > 1 else None})


@router.post("/webhook-secret/rotate", summary="Replace the secret; for a day the old one signs too")
async def rotate_secret(request: Request) -> Response:
    state, caller, secret = state_of(request), await caller_of(request), new_secret()
    await state.database.write(
        partial(accounts.rotate_secret, account_id=caller.account_id, secret=secret, now_ms=now_ms())
    )
    return json_response({"secret": secret, "previous_valid_for_s": accounts.ROTATION_MS // 1000})


def _delivery(row: Delivery, tried: list[DeliveryAttempt]) -> dict[str, Any]:
    return {
        "id": row.id,
        "object": "webhook.delivery",
        "event_id": row.event_id,
        "type": row.type,
        "batch_id": row.batch_id,
        "job_id": row.job_id,
        "url": row.url,
        "state": row.state,
        "attempts_made": row.attempts,
        "attempts_most": len(SCHEDULE_S),
        "next_attempt_at": row.due_ms // 1000 if row.due_ms is not None else None,
        "created_at": row.created_ms // 1000,
        "attempts": [_attempt(attempt) for attempt in tried],
    }


def _attempt(row: DeliveryAttempt) -> dict[str, Any]:
    return {
        "number": row.number,
        "started_at": row.started_ms // 1000,
        "duration_ms": row.duration_ms,
        "status": row.status,
        "error": row.error,
        "response_excerpt": row.excerpt,
    }
