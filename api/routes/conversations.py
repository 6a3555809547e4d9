"""/v1/conversations: what was said, turn by turn; found, named, and deleted for good."""

import asyncio
from dataclasses import replace
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.answers import json_response, page_of, window
from api.deps import State, body_of, caller_of, state_of
from api.searching import filters
from infra.clock import now_ms
from infra.results import clear
from models import branches, conversations, deletions
from models.branches import Said, Told
from models.errors import InvalidRequest, NotFound
from models.ids import job_of
from models.listings import Window
from models.marks import Marker
from models.searches import Wanted, found
from models.tables.transcripts import Conversation
from models.wire.conversations import (
    ConversationUpdate,
    NewConversation,
    columns,
    conversation_view,
    messages_view,
    whole_view,
)
from models.wire.problems import validated

router = APIRouter(prefix="/v1/conversations")


@router.post("", summary="Create an empty conversation, or find the one of that name")
async def create_conversation(request: Request) -> Response:
    state, caller = state_of(request), await caller_of(request)
    wanted = columns(validated(NewConversation, await body_of(request)))
    verb = partial(conversations.create, account_id=caller.account_id, columns=wanted, now_ms=now_ms())
    return json_response(conversation_view(await state.database.write(verb)))


@router.get("", summary="List conversations")
async def list_conversations(
    request: Request,
    wanted: Annotated[Wanted, Depends(filters)],
    pages: Annotated[Window, Depends(window)],
    sort: Annotated[
        Literal["created_at", "updated_at"] | None, Query(description="By update where a time of update is asked for")
    ] = None,
) -> Response:
    state, caller = state_of(request), await caller_of(request)
    if sort is not None:
        wanted = replace(wanted, by_update=sort == "updated_at")
    marker = Marker(caller.account_id, caller.salt)
    rows = await state.database.read(partial(found, marker=marker, wanted=wanted, window=pages))
    return page_of([conversation_view(row) for row in rows.rows], has_more=rows.has_more)


@router.get("/{conversation_id}", summary="Retrieve a conversation with its turns and branches")
async def retrieve_conversation(request: Request, conversation_id: str) -> Response:
    state, caller = state_of(request), await caller_of(request)
    query = partial(_told, account_id=caller.account_id, conversation_id=conversation_id)
    conversation, told = await state.database.read(query)
    # Thousands of branches take 0.4 s, for which others would wait.
    return await asyncio.to_thread(lambda: json_response(whole_view(conversation, told)))


@router.post("/{conversation_id}", summary="Change a conversation's title or metadata")
async def update_conversation(request: Request, conversation_id: str) -> Response:
    return await _changed(request, conversation_id)


@router.patch("/{conversation_id}", summary="The same, as others spell it")
async def patch_conversation(request: Request, conversation_id: str) -> Response:
    return await _changed(request, conversation_id)


@router.delete("/{conversation_id}", summary="Delete a conversation, really")
async def delete_conversation(request: Request, conversation_id: str) -> Response:
    """Its turns, their answers, and every message that no other conversation has."""
    state, caller = state_of(request), await caller_of(request)
    mine = partial(_mine, account_id=caller.account_id, conversation_id=conversation_id)
    conversation = await state.database.read(mine)
    await state.database.read(partial(deletions.check_closed, conversation=conversation))
    await _delete(state, conversation)
    return json_response({"id": conversation_id, "object": "conversation.deleted", "deleted": True})


@router.get("/{conversation_id}/messages", summary="List the messages of one branch, as they would be sent again")
async def list_branch(
    request: Request,
    conversation_id: str,
    leaf: Annotated[
        str | None, Query(max_length=64, description="The turn to end with; left out: the latest that is no replay")
    ] = None,
    choice: Annotated[int, Query(ge=0, lt=128, description="Which of its answers")] = 0,
) -> Response:
    state, caller = state_of(request), await caller_of(request)
    query = partial(_told, account_id=caller.account_id, conversation_id=conversation_id)
    _, told = await state.database.read(query)
    turn = leaf and job_of(leaf)
    return await asyncio.to_thread(lambda: json_response(messages_view(told, _leaf(told, turn, choice))))


def _leaf(told: Told, turn: str | None, choice: int) -> Said:
    if turn is None and told.leaves:
        return max(told.leaves, key=lambda leaf: (not leaf.turn.replay, leaf.turn.job_id, -leaf.choice))
    said = [each for each in told.said if each.turn.job_id == turn and each.choice == choice]
    if not said:
        raise InvalidRequest("leaf, choice: there is no such turn in it", param="leaf")
    return said[0]


async def _changed(request: Request, conversation_id: str) -> Response:
    state, caller = state_of(request), await caller_of(request)
    wanted = columns(validated(ConversationUpdate, await body_of(request)))
    verb = partial(conversations.change, account_id=caller.account_id, conversation_id=conversation_id)
    changed = await state.database.write(partial(verb, columns=wanted, now_ms=now_ms()))
    if changed is None:
        raise _missing(conversation_id)
    return json_response(conversation_view(changed))


async def _delete(state: State, conversation: Conversation) -> None:
    """A few turns a transaction: cut short, it can be repeated; what it leaves in the object store goes by upkeep."""
    gone, there = False, True
    while not gone:
        doomed = await state.database.read(partial(deletions.doomed, conversation_id=conversation.id))
        verb = partial(deletions.delete_turns, conversation=conversation, turns=doomed, now_ms=now_ms())
        gone = await state.database.write(verb)
        there = there and await clear(state.database, state.objects, doomed)
    await state.database.scrub()


def _told(session: Session, account_id: str, conversation_id: str) -> tuple[Conversation, Told]:
    return _mine(session, account_id, conversation_id), branches.told(session, conversation_id)


def _mine(session: Session, account_id: str, conversation_id: str) -> Conversation:
    conversation = conversations.find(session, account_id, conversation_id)
    if conversation is None:
        raise _missing(conversation_id)
    return conversation


def _missing(conversation_id: str) -> NotFound:
    return NotFound(f"there is no conversation {conversation_id!r}", param="conversation_id")
