"""How does a request become a job?  Validate, resolve the model, count, hash, insert, publish.

Before the insert is committed nothing has been promised; after it the job reaches an end whatever dies, because its row is its own
outbox: publishing only makes it quick.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from pydantic import ValidationError
from sqlalchemy.orm import Session

from api.admission import admit, give_back
from api.deps import State, now_ms
from api.served import served, staffed
from infra.broker import TaskName, depth
from infra.engine.tokenizer import counter_for
from infra.outbound import check_url
from infra.redis import FAULTS
from infra.telemetry import JOBS_ACCEPTED
from models import idempotency, ids, jobs, transcripts
from models.accounts import Caller
from models.cards.card import Card
from models.errors import ContextLengthExceeded, InvalidRequest, KeyReused, NotFound
from models.jobs import NewJob
from models.placement import queue_for, queues_of
from models.prefix import chain
from models.tables.jobs import Door
from models.wire.chat import NOT_FOR_THE_ENGINE, ChatRequest, JobRequest, tier_of
from models.wire.functions import as_tool_messages, as_tools
from models.wire.images import check_images, image_parts
from models.wire.problems import explain
from models.wire.shape import CALLS_OF, in_json_or_calls

_NOT_PARAMETERS = NOT_FOR_THE_ENGINE - {
    "stream",
    "stream_options",
    "service_tier",
}  # a worker frames its chunks by these
_BY_CAPABILITY = ("regex", "continue_final_message")  # an engine of another make would leave them out without a word
LONGEST_DEADLINE_S = 7 * 86_400
"""A job that may wait longer than a week is a mistake of units (milliseconds, most likely)."""
_AHEAD_S = 0.5
"""Redis answers within a millisecond, or the length of the queue is not worth the wait."""
COUNT_FROM_CHARACTERS = 2_000
"""Shorter prompts fit every card: a token has at least one byte."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a replayed turn comes from."""

    replay_id: str
    source_job_id: str
    conversation_id: str | None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that came with an Idempotency-Key."""

    account_id: str
    key: str
    digest_of: str


@dataclass(frozen=True, slots=True)
class Accepted:
    job_id: str
    """Or a replay's."""
    again: bool = False
    """An equal request with the same Idempotency-Key has made this job before; it is joined."""
    ahead: int | None = None
    """Jobs that go first, where the caller does not wait for this one, and Redis could tell."""


def headers_of(accepted: Accepted) -> dict[str, str]:
    """The headers that tell a repeated request from a new one, and how long the queue was."""
    repeated = {"idempotent-replayed": "true"} if accepted.again else {}
    return repeated if accepted.ahead is None else repeated | {"x-queue-position": str(accepted.ahead)}


async def accept(state: State, caller: Caller, body: dict[str, Any], door: Door, key: str | None = None) -> Accepted:
    """The job that now exists.  Raises InvalidRequest and its kin, NotFound, Unavailable."""
    asked = None if key is None else Asked(caller.account_id, key, idempotency.digest(door, body))
    if asked and (known := await made_before(state, asked)):
        return Accepted(known, again=True)
    job = await prepare(state, caller, body, door)
    ahead = None if _holds_the_line(door, body) else await jobs_ahead(state, job)
    (job,) = await admit(state, caller, [job])
    made = await made_once(state, caller, [job], job.id, _submitting(job, asked))
    if made != job.id:
        return Accepted(made, again=True)
    publish(state, [job])
    return Accepted(job.id, ahead=ahead)


async def made_before(state: State, asked: Asked) -> str | None:
    """What an equal request has made.  Looked for before all else: it may be there when nothing new could be made."""
    query = partial(idempotency.made_before, **asdict(asked), now_ms=now_ms())
    return await state.database.read(query)


async def jobs_ahead(state: State, job: NewJob) -> int | None:
    """How many wait that go before it, those of more urgent tiers among them; None while Redis does not say."""
    queues = queues_of(job.card)
    try:
        async with asyncio.timeout(_AHEAD_S):
            return await depth(state.redis, *queues[: queues.index(job.queue) + 1])
    except FAULTS:
        return None


async def made_once(
    state: State, caller: Caller, new: Sequence[NewJob], own: str, verb: Callable[[Session], str]
) -> str:
    """What the request stands for now: its `own`, or what an equal one made first; then what was admitted is given back."""
    try:
        made = await state.database.write(verb)
    except KeyReused:
        await give_back(state, caller, new)
        raise
    if made != own:
        await give_back(state, caller, new)
    return made


def _submitting(job: NewJob, asked: Asked | None) -> Callable[[Session], str]:
    if asked is None:
        return partial(_submit, job=job)
    return partial(idempotency.submit_once, job=job, key=asked.key, digest_of=asked.digest_of, now_ms=job.created_ms)


def _submit(session: Session, job: NewJob) -> str:
    jobs.submit(session, [job])
    return job.id


def _holds_the_line(door: Door, body: dict[str, Any]) -> bool:
    return door is Door.CHAT and not body.get("background")


async def prepare(
    state: State, caller: Caller, body: dict[str, Any], door: Door, lineage: Lineage | None = None
) -> NewJob:
    """All that can be refused is refused here; nothing is written."""
    _validate(body, JobRequest if door is Door.JOB else ChatRequest)
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
    if _holds_the_line(door, body):
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


def publish(state: State, new: Sequence[NewJob]) -> None:
    """Nothing waits for it: a message that is lost here is sent again by `upkeep`, from the row."""
    for job in new:
        state.publisher.publish_soon(TaskName.GENERATE, job.queue, job.id)
        JOBS_ACCEPTED.labels(job.door).inc()


def _validate(body: dict[str, Any], kind: type[ChatRequest]) -> None:
    try:
        kind.model_validate(body)
    except ValidationError as error:
        raise explain(error, body) from None


def _as_system(message: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's newer name for the system's role, which no template of Mistral's knows."""
    return message | {"role": "system"} if message["role"] == "developer" else message


def _parameters(card: Card, body: dict[str, Any]) -> dict[str, Any]:
    """What was asked for, and the card's word where the request is silent: a replay needs both."""
    asked = {key: value for key, value in body.items() if key not in _NOT_PARAMETERS and value is not None}
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
    for name in ("max_tokens", "max_completion_tokens"):
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
    begun = body.get("continue_final_message") is True
    return counter.count(messages, body.get("tools"), body.get("tool_choice"), continue_final_message=begun)


def _owned(session: Session, account_id: str, conversation_id: str) -> None:
    if transcripts.conversation(session, account_id, conversation_id) is None:
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
