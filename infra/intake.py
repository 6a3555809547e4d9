"""What of a request is refused at the door, and which job would it be?  Validate, resolve the model, fetch images, count, hash.

Nothing is written and nothing promised here: the API does both at once with what comes out, upkeep when it feeds a batch.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from sqlalchemy.orm import Session

from infra.clock import now_ms
from infra.database import Database
from infra.engine.tokenizer import counter_for
from infra.fleet_view import Fleet
from infra.images import Images
from infra.outbound import check_url
from models import conversations
from models.accounts import Caller
from models.cards.card import Card
from models.errors import ContextLengthExceeded, NotFound
from models.handover import NewJob
from models.requests import Lineage, as_seen, check_abilities, holds_the_line, new_job
from models.tables.jobs import Door
from models.wire.chat import ChatRequest, JobRequest
from models.wire.functions import as_tools
from models.wire.problems import validated

COUNT_FROM_CHARACTERS = 2_000
"""Shorter prompts fit every card: a token has at least one byte."""


@dataclass(frozen=True, slots=True)
class Intake:
    database: Database
    fleet: Fleet
    images: Images
    webhook_networks: Sequence[IPv4Network | IPv6Network]

    async def prepare(self, caller: Caller, body: dict[str, Any], door: Door, lineage: Lineage | None = None) -> NewJob:
        """All that can be refused is refused here; nothing is written."""
        validated(JobRequest if door is Door.JOB else ChatRequest, body)
        card = await self.fleet.card(body.get("model"))
        messages = as_seen(body)
        check_abilities(card, body)
        if "image" in card.modalities:
            messages = await self.images.brought(messages)
        await _fits(card, messages, as_tools(body))
        job = new_job(caller, card, body, messages, door, now_ms(), lineage)
        if job.conversation_id is not None:
            await self.database.read(partial(_owned, account_id=caller.account_id, conversation=job.conversation_id))
        if holds_the_line(door, body):
            self.fleet.require_worker(card)
        if job.webhook_url is not None:
            check_url(job.webhook_url, self.webhook_networks)
        return job


async def _fits(card: Card, messages: list[dict[str, Any]], body: dict[str, Any]) -> None:
    """Over-long prompts are refused before they queue, where the card's tokenizer is at hand."""
    if sum(_characters(message.get("content")) for message in messages) < COUNT_FROM_CHARACTERS:
        return
    tokens = await asyncio.to_thread(_tokens, card, messages, body)
    if tokens is not None and tokens >= card.context_tokens:
        raise ContextLengthExceeded(
            f"this model's maximum context length is {card.context_tokens} tokens, "
            f"but the messages have {tokens} tokens; shorten them",
            param="messages",
        )


def _characters(content: Any) -> int:
    if isinstance(content, list):
        return sum(len(part.get("text") or part.get("image_url", {}).get("url", "")) for part in content)
    return len(content or "")


def _tokens(card: Card, messages: list[dict[str, Any]], body: dict[str, Any]) -> int | None:
    """For a thread: the first count of a card may have to load its tokenizer.  None: there is none at hand."""
    counter = counter_for(card)
    if counter is None:
        return None
    if body.get("raw"):
        return counter.count_text(messages[0]["content"])
    begun = body.get("continue_final_message") is True
    return counter.count(messages, body.get("tools"), body.get("tool_choice"), continue_final_message=begun)


def _owned(session: Session, account_id: str, conversation: str) -> None:
    if conversations.find(session, account_id, conversation) is None:
        raise NotFound(f"there is no conversation {conversation!r}", param="conversation_id")
