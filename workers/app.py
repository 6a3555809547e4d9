"""The worker process: `celery -A workers.app worker --card …`.

The one module that reads settings at import, because Celery's command imports an app.  It joins an engine at `TRAM_ENGINE_URL`;
starting one is the command line's work.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from celery import signals

from infra import garbage, stores
from infra.broker import TaskName, celery_app
from infra.engine.client import EngineClient
from infra.settings import Settings
from infra.telemetry import set_up_logging
from workers import vigil
from workers.gate import Gate, stand_before
from workers.generate import generate
from workers.node import Node, leave, watched
from workers.pool import prepare
from workers.presence import Presence, Serving, place_of, take_options
from workers.task import register

settings = Settings()
app = celery_app(settings.redis)
gate = Gate()


@signals.setup_logging.connect  # type: ignore[untyped-decorator]
def _set_up_logging(**_: object) -> None:
    set_up_logging(settings.log_level)


@asynccontextmanager
async def lifespan() -> AsyncIterator[Node]:
    async with stores.opened(**settings.stores) as held, AsyncExitStack() as stack:
        engine = EngineClient(settings.engine_url, settings.engine_model)
        await engine.open()
        stack.push_async_callback(engine.close)
        serving: Serving = app.conf["tram_serving"]
        place = await asyncio.to_thread(place_of, serving, deterministic=settings.engine_deterministic)
        presence = Presence(held.redis, engine, settings.engine_url, serving, place)
        node = Node(held.database, held.redis, held.stream, held.objects, engine, held.publisher, presence, gate)
        await stack.enter_async_context(watched(node))
        if serving.joined:
            stack.callback(asyncio.create_task(vigil.keep(node, settings.engine_url, settings.engine_stuck_s)).cancel)
        garbage.settle()
        yield node


take_options(app)
stand_before(app, gate)
prepare(app, lifespan, drain_s=settings.drain_s, drain=leave)
register(app, TaskName.GENERATE, generate)
