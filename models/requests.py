"""Which job does a request ask for?  What of it the model cannot do is refused by name; the rest becomes the job's row.

Pure rules over a validated body and the card that was found for it: `infra.intake` finds the card, fetches images and counts tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models import ids
from models.accounts import Caller
from models.cards.card import Card
from models.errors import InvalidRequest
from models.handover import NewJob
from models.placement import queue_for
from models.prefix import chain
from models.tables.jobs import Door
from models.wire.chat import NOT_FOR_THE_ENGINE, tier_of
from models.wire.functions import as_tool_messages, as_tools
from models.wire.images import check_images, image_parts
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


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a job comes from that nobody has sent by itself: its batch, and of a replay the turn that it asks again."""

    batch_id: str
    source_job_id: str | None = None
    conversation_id: str | None = None


def new_job(
    caller: Caller,
    card: Card,
    body: Mapping[str, Any],
    messages: list[dict[str, Any]],
    door: Door,
    now_ms: int,
    lineage: Lineage | None = None,
) -> NewJob:
    """`messages` are the body's as the model is to see them."""
    # A file's row says itself what it belongs to, as what is sent; what a replay or an eval asks belongs where they say.
    told = None if door is Door.BATCH else lineage
    conversation_id, name = (told.conversation_id, None) if told else _conversation(body)
    return NewJob(
        id=ids.new("job"),
        account_id=caller.account_id,
        door=door,
        model=body.get("model") or card.id,
        card=card.id,
        queue=queue_for(card.id, tier_of(body)),
        created_ms=now_ms,
        parameters=_parameters(card, body),
        messages=messages,
        chain=chain(caller.salt, messages),
        store=body.get("store") is not False,
        meta=body.get("metadata") or {},
        webhook_url=body.get("webhook_url"),
        deadline_ms=_deadline(body.get("deadline"), now_ms),
        conversation_id=conversation_id,
        conversation_name=name,
        batch_id=lineage.batch_id if lineage else None,
        source_job_id=lineage.source_job_id if lineage else None,
    )


def _conversation(body: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """By id, or by the client's own name; what looks like an id is one."""
    told = body.get("conversation")
    if told is None or ids.is_id("conv", told):
        return told or body.get("conversation_id"), None
    return None, told


def as_seen(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The body's messages in the words that models know."""
    return as_tool_messages(map(_as_system, body["messages"]))


def holds_the_line(door: Door, body: Mapping[str, Any]) -> bool:
    """Whether somebody waits on the connection for the answer."""
    return door is Door.CHAT and not body.get("background")


def check_abilities(card: Card, body: Mapping[str, Any]) -> None:
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


def _as_system(message: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's newer name for the system's role, which no template of Mistral's knows."""
    return message | {"role": "system"} if message["role"] == "developer" else message


def _parameters(card: Card, body: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked for, and the card's word where the request is silent: a replay needs both."""
    asked = {key: value for key, value in body.items() if key not in _NOT_PARAMETERS and value is not None}
    if body.get("raw") and asked.keys().isdisjoint(_LIMITS):
        asked["max_tokens"] = RAW_TOKENS
    return card.sampling.model_dump() | asked | {"service_tier": tier_of(body).value}


def _deadline(deadline_s: int | None, now_ms: int) -> int | None:
    if deadline_s is None:
        return None
    left = deadline_s - now_ms / 1000
    if not 0 < left <= LONGEST_DEADLINE_S:
        raise InvalidRequest("deadline: Unix time in seconds, in the future and within a week", param="deadline")
    return deadline_s * 1000
