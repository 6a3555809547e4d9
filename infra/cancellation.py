"""What follows a wish to stop a job?  Its worker is told, or whoever waits for it hears that it has ended.

By Redis, which makes it quick; while Redis is away the row tells the same to whoever looks at it.
"""

import logging

from redis.asyncio import Redis

from infra.rate_limiter import let_go
from infra.redis import CANCEL_CHANNEL, FAULTS, NUDGE_CHANNEL
from infra.token_stream import TokenWriter
from models.errors import Cancelled
from models.handover import Moved
from models.lifecycle import JobState
from models.wire.ending import StreamEnd

log = logging.getLogger(__name__)


async def tell(redis: "Redis", stream: TokenWriter, moved: Moved) -> None:
    """`moved` is what `models.jobs.cancel` answers."""
    await let_go(redis, moved.settlement)
    try:
        if moved.state is JobState.IN_PROGRESS:
            await redis.publish(CANCEL_CHANNEL, moved.id)
        elif moved.state is JobState.CANCELLED:
            end = StreamEnd(JobState.CANCELLED, Cancelled("the job was cancelled").as_json())
            await stream.end(*moved.epilogue, end.dump())
            await redis.publish(NUDGE_CHANNEL, b"")
    except FAULTS:
        log.warning("Redis is away: the end of %s is told when its row is looked at", moved.id)
