"""What does every process of ours stand on?  Database, Redis with its token streams, objects and the broker: opened together, closed
in the reverse order, whatever happens.  Addresses are handed in.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from redis.asyncio import Redis

from infra import redis
from infra.broker import Publisher, celery_app
from infra.database import Database
from infra.objects import ObjectStore, open_store
from infra.token_stream import TokenWriter


@dataclass(frozen=True, slots=True)
class Stores:
    database: Database
    redis: Redis
    stream: TokenWriter
    objects: ObjectStore
    publisher: Publisher


@asynccontextmanager
async def opened(*, database_url: str, redis_url: str, objects_url: str) -> AsyncIterator[Stores]:
    """Raises Unavailable when the object store does not answer; Redis and the database are waited for by who needs them."""
    async with AsyncExitStack() as stack:
        database = Database(database_url)
        database.open()
        stack.callback(database.close)
        connection = redis.client(redis_url)
        stack.push_async_callback(connection.aclose)
        stream, objects = TokenWriter(connection), open_store(objects_url)
        for part in (stream, objects):
            await part.open()
            stack.push_async_callback(part.close)
        publisher = Publisher(celery_app(redis_url))
        publisher.start()
        stack.callback(publisher.close)
        yield Stores(database, connection, stream, objects, publisher)
