"""How is a job stopped?  Ended at once while it is queued; else its worker is told, by the row and, sooner, through Redis."""

import asyncio
import logging
from functools import partial

from api.deps import State, now_ms
from infra.rate_limiter import let_go
from infra.redis import CANCEL_CHANNEL, FAULTS, NUDGE_CHANNEL
from models import jobs
from models.errors import Cancelled, TramError
from models.jobs import Moved
from models.lifecycle import JobState
from models.wire.ending import StreamEnd

log = logging.getLogger(__name__)

_under_way: set[asyncio.Task[Moved | None]] = set()


async def cancel(state: State, account_id: str, job_id: str) -> Moved | None:
    """How the job stands now; None when there is none."""
    verb = partial(jobs.cancel, account_id=account_id, job_id=job_id, now_ms=now_ms())
    moved = await state.database.write(verb)
    if moved is None:
        return None
    await let_go(state.redis, moved.settlement)
    try:
        if moved.state is JobState.IN_PROGRESS:
            await state.redis.publish(CANCEL_CHANNEL, job_id)
        elif moved.state is JobState.CANCELLED:
            end = StreamEnd(JobState.CANCELLED, Cancelled("the job was cancelled").as_json())
            await state.writer.end(*moved.epilogue, end.dump())
            await state.redis.publish(NUDGE_CHANNEL, b"")
    except FAULTS:
        log.warning("Redis is away: the end of %s is told when its row is looked at", job_id)
    return moved


def hang_up(state: State, account_id: str, job_id: str) -> None:
    """The caller is gone, and with it whoever could await this."""
    task = asyncio.create_task(_quietly(state, account_id, job_id))
    _under_way.add(task)
    task.add_done_callback(_under_way.discard)


async def _quietly(state: State, account_id: str, job_id: str) -> Moved | None:
    try:
        return await cancel(state, account_id, job_id)
    except TramError as error:
        log.warning("could not cancel %s after its caller hung up: %s", job_id, error.message)
        return None
