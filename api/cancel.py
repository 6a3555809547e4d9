"""How is a job stopped?  Ended at once while it is queued; else its worker is told, by the row and, sooner, through Redis."""

import asyncio
import logging
from functools import partial

from api.deps import State
from infra.cancellation import tell
from infra.clock import now_ms
from models import jobs
from models.errors import TramError
from models.handover import Moved

log = logging.getLogger(__name__)

_under_way: set[asyncio.Task[Moved | None]] = set()


async def cancel(state: State, account_id: str, job_id: str) -> Moved | None:
    """How the job stands now; None when there is none."""
    verb = partial(jobs.cancel, account_id=account_id, job_id=job_id, now_ms=now_ms())
    moved = await state.database.write(verb)
    if moved is None:
        return None
    await tell(state.redis, state.writer, moved)
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
