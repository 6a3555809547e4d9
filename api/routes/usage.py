"""/v1/usage and /v1/balance: what was used, by whom, under which tag, and what is left.

A top-level account sees the usage of those below it, and nothing of what they said; a sub-account sees its own.
"""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from sqlalchemy import or_, select
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.answers import json_response
from api.deps import caller_of, state_of
from infra.clock import now_ms
from models import usage
from models.errors import PermissionDenied
from models.limits import month_of
from models.tables.access import Account
from models.usage import RECENT_MOST, Summed
from models.wire.accounts import balance_view, summed_view, usage_view

router = APIRouter(prefix="/v1")
Month = Annotated[
    str | None, Query(pattern=r"^\d{4}-(0[1-9]|1[0-2])$", description="As 2026-11, in UTC; left out: this one")
]


@router.get("/usage/by-tag", summary="What was used in a month, by tag")
async def usage_by_tag(request: Request, month: Month = None) -> Response:
    caller, month = await caller_of(request), month or month_of(now_ms())
    query = partial(usage.by_tag, account_id=caller.account_id, month=month)
    rows = await state_of(request).database.read(query)
    return _listed(
        month, [summed_view(row) | {"tag": row.label or None, "label": row.label or "untagged"} for row in rows]
    )


@router.get("/usage/by-sub-account", summary="What was used in a month, by sub-account")
async def usage_by_sub_account(request: Request, month: Month = None) -> Response:
    caller, month = await caller_of(request), month or month_of(now_ms())
    if caller.parent_id is not None:
        raise PermissionDenied(
            "a sub-account has none below it; /v1/usage/recent and /v1/usage/by-tag show its own usage"
        )

    def query(session: Session) -> list[dict[str, Any]]:
        mine = select(Account).where(or_(Account.id == caller.account_id, Account.parent_id == caller.account_id))
        known = {account.id: account for account in session.scalars(mine)}
        return [_of_account(known[row.label], row) for row in usage.by_account(session, caller.account_id, month)]

    return _listed(month, await state_of(request).database.read(query))


@router.get("/usage/recent", summary="The jobs that ended last, and what they cost")
async def recent_usage(request: Request, limit: Annotated[int, Query(ge=1, le=RECENT_MOST)] = 50) -> Response:
    caller = await caller_of(request)
    rows = await state_of(request).database.read(partial(usage.recent, account_id=caller.account_id, limit=limit))
    return json_response({"object": "list", "data": [usage_view(row) for row in rows]})


@router.get("/balance", summary="What is left to spend")
async def balance(request: Request) -> Response:
    caller, month = await caller_of(request), month_of(now_ms())

    def query(session: Session) -> dict[str, Any]:
        account = session.get_one(Account, caller.account_id)
        return balance_view(account, usage.spent(session, account.id, month))

    return json_response(await state_of(request).database.read(query))


def _of_account(account: Account, row: Summed) -> dict[str, Any]:
    named = {"id": account.id, "label": account.name, "name": account.name, "external_ref": account.external_ref}
    return summed_view(row) | named | {"closed": account.closed_ms is not None}


def _listed(month: str, rows: list[dict[str, Any]]) -> Response:
    return json_response({"object": "list", "month": month, "data": rows})
