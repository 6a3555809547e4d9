"""How does a request become a job that is promised?  Once for each key, within its account's limits: inserted, then published.

Before the insert is committed nothing has been promised; after it the job reaches an end whatever dies, because its row is its own
outbox: publishing only makes it quick.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from sqlalchemy.orm import Session

from api.deps import State
from api.middleware import add_headers
from api.records import job_of
from infra.admission import admit, give_back
from infra.broker import TaskName, depth
from infra.clock import now_ms
from infra.redis import FAULTS
from infra.telemetry import JOBS_ACCEPTED
from models import idempotency, ids, jobs
from models.accounts import Caller
from models.errors import InvalidRequest, KeyReused
from models.handover import NewJob
from models.placement import queues_of
from models.requests import holds_the_line
from models.tables.jobs import Door, Job

_AHEAD_S = 0.5
"""Redis answers within a millisecond, or the length of the queue is not worth the wait."""


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
    new: NewJob | None = None
    """What was made for it, if anything: to be shown without another look, which might fail and make the caller ask again."""


def headers_of(accepted: Accepted) -> dict[str, str]:
    """The headers that tell a repeated request from a new one, and how long the queue was."""
    repeated = {"idempotent-replayed": "true"} if accepted.again else {}
    return repeated if accepted.ahead is None else repeated | {"x-queue-position": str(accepted.ahead)}


async def accept(state: State, caller: Caller, body: dict[str, Any], door: Door, key: str | None = None) -> Accepted:
    """The job that now exists.  Raises InvalidRequest and its kin, NotFound, QueueFull, Unavailable."""
    asked = _asked(caller, key, idempotency.digest(door, body))
    if asked and (known := await made_before(state, asked)):
        return Accepted(known, again=True)
    job = await state.intake.prepare(caller, body, door)
    ahead = None if holds_the_line(door, body) else await jobs_ahead(state, job)
    return await _made(state, caller, [job], asked, ahead)


async def shown(state: State, caller: Caller, accepted: Accepted) -> Job:
    """Raises NotFound, where an older job is joined that has been deleted."""
    if accepted.new is not None:
        return jobs.submitted(accepted.new)
    return await job_of(state, caller.account_id, accepted.job_id)


async def accept_all(
    state: State, caller: Caller, chats: Sequence[Callable[[], dict[str, Any]]], key: str | None = None
) -> Accepted:
    """Jobs of one series, all or none, for whom nobody waits; the first stands for them.  Raises as `accept` does."""
    bodies, new = [], []
    for number, chat in enumerate(chats):
        with _within(f"requests[{number}]"):
            bodies.append(chat())
    asked = _asked(caller, key, idempotency.digest(Door.JOB, {"requests": bodies}))
    if asked and (known := await made_before(state, asked)):
        return Accepted(known, again=True)
    for number, name in enumerate(ids.series("job", len(chats))):
        with _within(f"requests[{number}]"):
            new.append(replace(await state.intake.prepare(caller, bodies[number], Door.JOB), id=name))
        await asyncio.sleep(0)  # a thousand take 0.3 s, in which nobody else would get a token
    return await _made(state, caller, new, asked)


def publish(state: State, new: Sequence[NewJob]) -> None:
    """Nothing waits for it: a message that is lost here is sent again by `upkeep`, from the row."""
    for job in new:
        state.publisher.publish_soon(TaskName.GENERATE, job.queue, job.id)
        JOBS_ACCEPTED.labels(job.door).inc()


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
        await give_back(state.redis, caller, new)
        raise
    if made != own:
        await give_back(state.redis, caller, new)
    return made


async def _made(
    state: State, caller: Caller, new: Sequence[NewJob], asked: Asked | None, ahead: int | None = None
) -> Accepted:
    """Admitted, inserted and published, all or none."""
    for card_id, queue in {(job.card, job.queue) for job in new}:
        state.fleet.require_room(card_id, queue, state.settings.queue_most)
    new = await admit(state.database, state.redis, caller, new, add_headers)
    made = await made_once(state, caller, new, new[0].id, _submitting(new, asked))
    if made != new[0].id:
        return Accepted(made, again=True)
    publish(state, new)
    return Accepted(made, ahead=ahead, new=new[0])


def _asked(caller: Caller, key: str | None, digest_of: str) -> Asked | None:
    return None if key is None else Asked(caller.account_id, key, digest_of)


def _submitting(new: Sequence[NewJob], asked: Asked | None) -> Callable[[Session], str]:
    if asked is None:
        return partial(_submit, new=new)
    return partial(
        idempotency.submit_all_once, new=new, key=asked.key, digest_of=asked.digest_of, now_ms=new[0].created_ms
    )


def _submit(session: Session, new: Sequence[NewJob]) -> str:
    jobs.submit(session, new)
    return new[0].id


@contextmanager
def _within(place: str) -> Iterator[None]:
    """What is wrong with one of several requests is told with its place among them."""
    try:
        yield
    except InvalidRequest as error:
        param = place if error.param is None else f"{place}.{error.param}"
        raise type(error)(f"{place}: {error.message}", param=param, code=error.own_code) from None
