"""The task `chat.generate`: how does a queued job become an answer that is stored and told?

Claim by compare-and-set (a repeated message finds nothing to claim), run one attempt, write its end.  The end is written until
the database takes it or says that somebody else has the job.  A result too large for the row goes to the object store first; if
that store is away, the row takes it after all.
"""

import asyncio
import contextlib
import logging
from functools import partial
from typing import Any

from infra.broker import TaskName
from infra.clock import now_ms
from infra.rate_limiter import let_go
from infra.results import key_of
from infra.token_stream import Fenced
from models import environments, jobs, outbox
from models.errors import EngineLost, TramError, Unavailable
from models.handover import Claimed, Ending, Moved
from models.lifecycle import JobState
from models.limits import settlement
from models.packing import pack
from models.tables.jobs import Door
from models.transcripts import Spoken
from models.wire.chat import tier_of
from models.wire.ending import StreamEnd
from models.wire.functions import as_function_answer, as_recorded, asked_for
from models.wire.stream import completion
from workers.attempt import Attempt, Outcome, engine_failure
from workers.node import Node

log = logging.getLogger(__name__)

INLINE_BYTES = 32 << 10
"""Packed results up to this stay in the row (one write, one read); four Postgres pages out of line."""
_AGAIN_S = 1.0


async def generate(node: Node, job_id: str) -> None:
    if not node.gate.is_open:
        await _send_back(node, job_id)
        return
    verb = partial(jobs.claim, job_id=job_id, worker=node.name, now_ms=now_ms())
    claimed = await node.database.write(verb)
    if claimed is None:
        return
    attempt = Attempt(node, claimed)
    node.hold(job_id, claimed.attempt, attempt.stop)
    try:
        await _conclude(node, attempt, await _run(attempt))
    except asyncio.CancelledError:  # the worker is stopping and this job has used up its time
        await _hand_back(node, claimed, EngineLost("the worker was stopped"))
        raise
    finally:
        if _still_ours(node, claimed):
            del node.running[job_id]


async def _send_back(node: Node, job_id: str) -> None:
    """A message that was on its way when the engine went: another worker may have one that runs."""
    queue = await node.database.read(partial(outbox.queue_of, job_id=job_id))
    if queue is not None:
        node.publisher.publish_soon(TaskName.GENERATE, queue, job_id)


async def _run(attempt: Attempt) -> Outcome:
    try:
        return await attempt.run()
    except Exception as error:
        log.exception("attempt %d of %s broke", attempt.job.attempt, attempt.job.id)
        return Outcome(JobState.FAILED, engine_failure(error))


async def _conclude(node: Node, attempt: Attempt, outcome: Outcome) -> None:
    if outcome.lost:
        _let_go(node, attempt.job)
        return
    if outcome.state is None:
        await _hand_back(node, attempt.job, outcome.error or EngineLost("the engine was lost"))
        return
    whole = _completion(attempt) if attempt.answer.finish_reasons() else None
    ending = await _ending(node, attempt, outcome, whole)
    verb = partial(jobs.finish, job_id=attempt.job.id, attempt=attempt.job.attempt, ending=ending)
    if not await _until_taken(node, verb):
        _let_go(node, attempt.job)
        if key := ending.result_key:  # somebody else has the job: nobody will ever ask for this
            await node.objects.delete(key)
        return
    # Before its end is told: who hears of it may ask again at once.
    await let_go(node.redis, settlement(attempt.job, ending))
    node.tally(attempt.usage)
    streamed = attempt.job.parameters.get("stream")
    with contextlib.suppress(Fenced):  # the row is written; only the line is somebody else's
        told = StreamEnd(outcome.state, ending.error, None if streamed else whole, attempt.job.waited_ms)
        await attempt.relay.end(told)
    if attempt.job.webhook_url is not None:
        await node.nudge_deliveries()


def _still_ours(node: Node, job: Claimed) -> bool:
    """A worker that stalled may have lost a job and claimed it again: then its later attempt has taken the place."""
    attempt, _ = node.running.get(job.id, (None, None))
    return attempt == job.attempt


def _let_go(node: Node, job: Claimed) -> None:
    """What a lost attempt has not sent is for nobody, and must not stay in memory."""
    if _still_ours(node, job):
        node.stream.forget(job.id)


def _completion(attempt: Attempt) -> dict[str, Any]:
    job = attempt.job
    created_s, tier = job.created_ms // 1000, tier_of(job.parameters)
    choices = attempt.answer.choices()
    if asked_for(job.parameters):
        choices = as_function_answer(choices)
    return completion(job.id, job.model, created_s, choices, attempt.usage, tier, attempt.fingerprint)


def _answers(attempt: Attempt) -> list[Spoken]:
    spoken, job = attempt.answer.spoken(), attempt.job
    return as_recorded(spoken, len(job.messages)) if asked_for(job.parameters) else spoken


async def _ending(node: Node, attempt: Attempt, outcome: Outcome, whole: dict[str, Any] | None) -> Ending:
    assert outcome.state is not None
    usage = attempt.usage
    result, key = await _kept(node, attempt, whole)
    return Ending(
        state=outcome.state,
        at_ms=now_ms(),
        error=None if outcome.error is None else outcome.error.as_json(),
        result=result,
        result_key=key,
        answers=_answers(attempt),
        first_token_ms=attempt.first_token_ms,
        prompt_tokens=usage["prompt_tokens"],
        completion_tokens=usage["completion_tokens"],
        cached_tokens=usage["prompt_tokens_details"]["cached_tokens"],
        environment=await _environment(node, attempt),
    )


async def _environment(node: Node, attempt: Attempt) -> str | None:
    """The digest, once the database has what it stands for."""
    known = attempt.environment
    if known is None:
        return None
    if known.digest not in node.noted:
        await _until_taken(node, partial(environments.note, known=known, now_ms=now_ms()))
        node.noted.add(known.digest)
    return known.digest


async def _kept(node: Node, attempt: Attempt, whole: dict[str, Any] | None) -> tuple[dict[str, Any] | None, str | None]:
    """The result for the row, or the key it lies under."""
    if whole is None or (attempt.job.door is Door.CHAT and not attempt.job.store):
        return None, None
    began = attempt.job.created_ms
    result = {
        "completion": whole,
        "chunks": [text.decode() for text in attempt.relay.chunks],
        "times_ms": [at - began for at in attempt.relay.times_ms],
        "tokens": attempt.relay.tokens,
    }
    if sum(map(len, attempt.relay.chunks)) <= INLINE_BYTES:
        return result, None
    packed = await asyncio.to_thread(pack, result)
    if len(packed) <= INLINE_BYTES:
        return result, None
    key = key_of(attempt.job.id, attempt.job.attempt)
    try:
        await node.objects.put(key, packed)
    except Unavailable:
        log.warning("the object store is away: the result of %s stays in its row", attempt.job.id)
        return result, None
    return None, key


async def _hand_back(node: Node, job: Claimed, error: TramError) -> None:
    node.stream.forget(job.id)
    verb = partial(jobs.hand_back, job_id=job.id, attempt=job.attempt, now_ms=now_ms(), error=error.as_json())
    await announce_move(node, await _until_taken(node, verb), error)


async def announce_move(node: Node, moved: Moved | None, error: TramError) -> None:
    """What follows when a job changed hands: its message again, or its end to whoever waits."""
    if moved is None:
        return
    if moved.state is JobState.QUEUED:
        node.publisher.publish_soon(TaskName.GENERATE, moved.queue, moved.id)
        return
    await let_go(node.redis, moved.settlement)
    await node.stream.end(*moved.epilogue, StreamEnd(moved.state, error.as_json()).dump())
    await node.nudge_deliveries()


async def _until_taken(node: Node, verb: Any) -> Any:
    """The database may be away for longer than a caller would wait; a worker has time."""
    while True:
        try:
            return await node.database.write(verb)
        except Unavailable:
            log.warning("the database is away; the end of a job waits for it")
            await asyncio.sleep(_AGAIN_S)
