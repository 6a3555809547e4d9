"""/v1/sub-accounts: accounts below the caller's, with keys and limits of their own.  Only a top-level account's key opens these."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.answers import json_response, page_of
from api.deps import body_of, caller_of, state_of
from infra.clock import now_ms
from models import sub_accounts, usage
from models.accounts import Caller
from models.errors import NotFound, PermissionDenied
from models.limits import month_of
from models.sub_accounts import LISTED_MOST
from models.tables.access import Account
from models.wire.accounts import NewSubAccount, Rotation, SubAccountUpdate, sub_account_view
from models.wire.problems import validated

router = APIRouter(prefix="/v1/sub-accounts")
_NOTHING = (0, 0)


@router.post("", summary="Create a sub-account; its key is shown this once", status_code=201)
async def create_sub_account(request: Request) -> Response:
    state, caller = state_of(request), await _owner(request)
    wanted = validated(NewSubAccount, await body_of(request))
    new = partial(sub_accounts.create, parent_id=caller.account_id, name=wanted.name, now_ms=now_ms())
    account, key = await state.database.write(partial(new, columns=wanted.columns()))
    view = sub_account_view(account, _NOTHING) | {"scoped_key": key}
    return json_response(view, 201, {"location": f"/v1/sub-accounts/{account.id}"})


@router.get("", summary="List sub-accounts")
async def list_sub_accounts(
    request: Request,
    after: Annotated[str | None, Query(max_length=64, description="The last id of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=LISTED_MOST)] = LISTED_MOST,
) -> Response:
    state, caller = state_of(request), await _owner(request)

    def query(session: Session) -> list[dict[str, Any]]:
        rows = sub_accounts.listed(session, caller.account_id, after, limit + 1)
        spent = usage.spent_each(session, caller.account_id, month_of(now_ms()))
        return [sub_account_view(row, spent.get(row.id, _NOTHING)) for row in rows]

    rows = await state.database.read(query)
    return page_of(rows[:limit], has_more=len(rows) > limit)


@router.get("/{account_id}", summary="Retrieve a sub-account")
async def retrieve_sub_account(request: Request, account_id: str) -> Response:
    caller = await _owner(request)
    return await _shown(
        request, partial(sub_accounts.find, parent_id=caller.account_id, account_id=account_id), write=False
    )


@router.patch("/{account_id}", summary="Change a sub-account; null takes a limit away")
async def update_sub_account(request: Request, account_id: str) -> Response:
    caller = await _owner(request)
    wanted = validated(SubAccountUpdate, await body_of(request))

    def verb(session: Session) -> Account | None:
        account = sub_accounts.find(session, caller.account_id, account_id)
        return account and sub_accounts.change(session, caller.account_id, account_id, wanted.columns(account))

    return await _shown(request, verb, write=True)


@router.delete("/{account_id}", summary="Close a sub-account; its usage stays in the books")
async def delete_sub_account(request: Request, account_id: str) -> Response:
    state, caller = state_of(request), await _owner(request)
    verb = partial(sub_accounts.close, parent_id=caller.account_id, account_id=account_id, now_ms=now_ms())
    if not await state.database.write(verb):
        raise _missing(account_id)
    return json_response({"id": account_id, "object": "sub_account", "deleted": True})


@router.post(
    "/{account_id}/keys/rotate", summary="Replace a sub-account's keys; the old ones live on for `grace_period`"
)
async def rotate_keys(request: Request, account_id: str) -> Response:
    state, caller = state_of(request), await _owner(request)
    grace_s = validated(Rotation, await body_of(request)).grace_period
    mine = partial(sub_accounts.rotate, parent_id=caller.account_id, account_id=account_id)
    made = await state.database.write(partial(mine, now_ms=now_ms(), grace_ms=grace_s * 1000))
    if made is None:
        raise _missing(account_id)
    told = {"id": account_id, "object": "sub_account", "scoped_key": made[1], "previous_valid_for_s": grace_s}
    return json_response(told)


async def _owner(request: Request) -> Caller:
    caller = await caller_of(request)
    if caller.parent_id is not None:
        raise PermissionDenied("a sub-account's key cannot manage accounts")
    return caller


async def _shown(request: Request, verb: Any, *, write: bool) -> Response:
    state, month = state_of(request), month_of(now_ms())

    def both(session: Session) -> dict[str, Any] | None:
        account = verb(session)
        return account and sub_account_view(account, usage.spent(session, account.id, month))

    view = await (state.database.write(both) if write else state.database.read(both))
    if view is None:
        raise _missing(request.path_params["account_id"])
    return json_response(view)


def _missing(account_id: str) -> NotFound:
    return NotFound(f"there is no sub-account {account_id!r}", param="account_id")
