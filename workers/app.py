"""The worker process: `celery -A workers.app worker`.

The one module that reads settings at import, because Celery's command imports an app.  It joins an engine at `TRAM_ENGINE_URL`;
starting one is the command line's work.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from celery import signals

from infra import redis
from infra.broker import Publisher, TaskName, celery_app
from infra.database import Database
from infra.engine.client import EngineClient
from infra.objects import open_store
from infra.settings import Settings
from infra.telemetry import set_up_logging
from infra.token_stream import TokenWriter
from workers.generate import generate
from workers.node import Node, watched
from workers.pool import prepare
from workers.task import register

settings = Settings()
app = celery_app(settings.redis)


@signals.setup_logging.connect  # type: ignore[untyped-decorator]
def _set_up_logging(**_: object) -> None:
    set_up_logging(settings.log_level)


@asynccontextmanager
async def lifespan() -> AsyncIterator[Node]:
    async with AsyncExitStack() as stack:
        database = Database(settings.database)
        database.open()
        stack.callback(database.close)
        connection = redis.client(settings.redis)
        stack.push_async_callback(connection.aclose)
        stream, objects = TokenWriter(connection), open_store(settings.objects)
        engine = EngineClient(settings.engine_url, settings.engine_model)
        for part in (stream, objects, engine):
            await part.open()
            stack.push_async_callback(part.close)
        publisher = Publisher(celery_app(settings.redis))
        publisher.start()
        stack.callback(publisher.close)
        node = Node(database, connection, stream, objects, engine, publisher)
        yield await stack.enter_async_context(watched(node))


prepare(app, lifespan, drain_s=settings.drain_s)
register(app, TaskName.GENERATE, generate)
