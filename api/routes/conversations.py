"""/v1/conversations: what was said, turn by turn."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.answers import json_response, page_of, window
from api.deps import caller_of, state_of
from models import conversations, transcripts
from models.errors import NotFound
from models.listings import Window, page
from models.tables.transcripts import Conversation
from models.wire.conversations import conversation_view, turn_view

router = APIRouter(prefix="/v1/conversations")


@router.get("", summary="List conversations")
async def list_conversations(request: Request, pages: Annotated[Window, Depends(window)]) -> Response:
    state, caller = state_of(request), await caller_of(request)
    found = await state.database.read(lambda session: page(session, Conversation, caller.account_id, pages))
    return page_of([conversation_view(row) for row in found.rows], has_more=found.has_more)


@router.get("/{conversation_id}", summary="Retrieve a conversation with its turns")
async def retrieve_conversation(request: Request, conversation_id: str) -> Response:
    state, caller = state_of(request), await caller_of(request)
    view = await state.database.read(lambda session: _whole(session, caller.account_id, conversation_id))
    if view is None:
        raise NotFound(f"there is no conversation {conversation_id!r}", param="conversation_id")
    return json_response(view)


def _whole(session: Session, account_id: str, conversation_id: str) -> dict[str, Any] | None:
    conversation = conversations.find(session, account_id, conversation_id)
    if conversation is None:
        return None
    turns = transcripts.turns(session, conversation_id)
    answers = transcripts.answers_of(session, [turn.job_id for turn, _ in turns])
    tree = transcripts.tree_above(session, [turn.prompt for turn, _ in turns])
    known = {turn.job_id: {turn.prompt, *(answer.hash for answer, _ in answers[turn.job_id])} for turn, _ in turns}
    views = [
        turn_view(
            turn,
            job,
            transcripts.path(tree, turn.prompt, known.get(turn.parent_job_id or "", ())),
            answers[turn.job_id],
        )
        for turn, job in turns
    ]
    return conversation_view(conversation) | {"turns": views}
