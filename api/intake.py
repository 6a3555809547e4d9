"""What of a request is refused at the door, and which job would it be?  Validate, resolve the model, count, hash.

Nothing is written and nothing promised here: `api.acceptance` does both with what comes out.
"""

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy.orm import Session

from api.deps import State, now_ms
from api.served import served, staffed
from infra.engine.tokenizer import counter_for
from infra.outbound import check_url
from models import conversations, ids
from models.accounts import Caller
from models.cards.card import Card
from models.errors import ContextLengthExceeded, InvalidRequest, NotFound
from models.jobs import NewJob
from models.placement import queue_for
from models.prefix import chain
from models.tables.jobs import Door
from models.wire.chat import NOT_FOR_THE_ENGINE, ChatRequest, JobRequest, tier_of
from models.wire.functions import as_tool_messages, as_tools
from models.wire.images import check_images, image_parts
from models.wire.problems import validated
from models.wire.shape import CALLS_OF, in_json_or_calls

_NOT_PARAMETERS = NOT_FOR_THE_ENGINE - {
    "stream",
    "stream_options",
    "service_tier",
}  # a worker frames its chunks by these
_LIMITS = {"max_tokens", "max_completion_tokens"}
_BY_CAPABILITY = ("regex", "continue_final_message")  # an engine of another make would leave them out without a word
LONGEST_DEADLINE_S = 7 * 86_400
"""A job that may wait longer than a week is a mistake of units (milliseconds, most likely)."""
RAW_TOKENS = 16
"""How long what follows a raw prompt may get where nobody says: as with OpenAI's completions, since no template ends it."""
COUNT_FROM_CHARACTERS = 2_000
"""Shorter prompts fit every card: a token has at least one byte."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a replayed turn comes from."""

    replay_id: str
    source_job_id: str
    conversation_id: str | None


async def prepare(
    state: State, caller: Caller, body: dict[str, Any], door: Door, lineage: Lineage | None = None
) -> NewJob:
    """All that can be refused is refused here; nothing is written."""
    validated(JobRequest if door is Door.JOB else ChatRequest, body)
    card = await served(state, body.get("model"))
    messages = as_tool_messages(map(_as_system, body["messages"]))
    check_abilities(card, body)
    if "image" in card.modalities:
        messages = await state.images.brought(messages)
    await _fits(card, messages, as_tools(body))
    created = now_ms()
    conversation = lineage.conversation_id if lineage else body.get("conversation_id")
    if conversation is not None:
        await state.database.read(partial(_owned, account_id=caller.account_id, conversation_id=conversation))
    if holds_the_line(door, body):
        staffed(state, card)
    return NewJob(
        id=ids.new("job"),
        account_id=caller.account_id,
        door=door,
        model=body.get("model") or card.id,
        card=card.id,
        queue=queue_for(card.id, tier_of(body)),
        created_ms=created,
        parameters=_parameters(card, body),
        messages=messages,
        chain=chain(caller.salt, messages),
        store=body.get("store") is not False,
        meta=body.get("metadata") or {},
        webhook_url=_webhook(state, body.get("webhook_url")),
        deadline_ms=_deadline(body.get("deadline"), created),
        conversation_id=conversation,
        replay_id=lineage.replay_id if lineage else None,
        source_job_id=lineage.source_job_id if lineage else None,
    )


def holds_the_line(door: Door, body: dict[str, Any]) -> bool:
    """Whether somebody waits on the connection for the answer."""
    return door is Door.CHAT and not body.get("background")


def _as_system(message: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's newer name for the system's role, which no template of Mistral's knows."""
    return message | {"role": "system"} if message["role"] == "developer" else message


def _parameters(card: Card, body: dict[str, Any]) -> dict[str, Any]:
    """What was asked for, and the card's word where the request is silent: a replay needs both."""
    asked = {key: value for key, value in body.items() if key not in _NOT_PARAMETERS and value is not None}
    if body.get("raw") and asked.keys().isdisjoint(_LIMITS):
        asked["max_tokens"] = RAW_TOKENS
    return card.sampling.model_dump() | asked | {"service_tier": tier_of(body).value}


def check_abilities(card: Card, body: dict[str, Any]) -> None:
    """What this model cannot do is said, never left out."""
    if "image" in card.modalities:
        check_images(body["messages"])
    elif image := next(image_parts(body["messages"]), None):
        raise InvalidRequest(f"{card.id} reads text only", param=image[0], code="unsupported_content_type")
    for name in _BY_CAPABILITY:
        if body.get(name) and name not in card.capabilities:
            raise InvalidRequest(f"{name}: {card.id} cannot do that", param=name, code="unsupported_parameter")
    if (shape := in_json_or_calls(as_tools(body))) and card.tool_calls != CALLS_OF:
        raise InvalidRequest(
            f"{shape}: {card.id} cannot do that where it may call tools; set tool_choice to none", param=shape
        )
    for name in sorted(_LIMITS):
        if (body.get(name) or 0) > card.max_output_tokens:
            raise InvalidRequest(f"{name}: {card.id} answers with at most {card.max_output_tokens} tokens", param=name)


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


def _owned(session: Session, account_id: str, conversation_id: str) -> None:
    if conversations.find(session, account_id, conversation_id) is None:
        raise NotFound(f"there is no conversation {conversation_id!r}", param="conversation_id")


def _webhook(state: State, url: str | None) -> str | None:
    if url is not None:
        check_url(url, state.settings.webhook_networks)
    return url


def _deadline(deadline_s: int | None, created_ms: int) -> int | None:
    if deadline_s is None:
        return None
    left = deadline_s - created_ms / 1000
    if not 0 < left <= LONGEST_DEADLINE_S:
        raise InvalidRequest("deadline: Unix time in seconds, in the future and within a week", param="deadline")
    return deadline_s * 1000
