"""The API process: what it holds while it lives, and which routes it serves.

`create_app` is what uvicorn calls; the lifespan opens the connections and hands them to the routes as `request.state.tram`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypedDict

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import REGISTRY
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match, Route

from api import errors
from api.deps import State
from api.middleware import RequestId
from api.routes import (
    accounts,
    batches,
    chat,
    completions,
    conversations,
    documents,
    eval_runs,
    evals,
    files,
    health,
    job_files,
    jobs,
    models,
    native,
    replays,
    texts,
    transcripts,
    usage,
    webhooks,
)
from infra import garbage, stores
from infra.engine.server import default_card, device
from infra.engine.tokenizer import counter_for
from infra.fleet_view import Fleet
from infra.images import Images
from infra.intake import Intake
from infra.outbound import Outbound
from infra.settings import Settings
from infra.telemetry import FleetMetrics, set_up_logging
from infra.token_stream import TokenReader
from models.cards.card import named
from models.errors import InvalidRequest, NotFound, TramError

log = logging.getLogger(__name__)

_ROUTES = (
    *(chat, completions, texts, native, jobs, transcripts, conversations, replays),
    *(job_files, files, batches, evals, eval_runs, webhooks),
    *(accounts, usage, models, health, documents),
)


class Held(TypedDict):
    tram: State


def create_app(settings: Settings | None = None) -> FastAPI:
    settings = settings or Settings()
    set_up_logging(settings.log_level)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[Held]:
        async with opened(settings) as state:
            garbage.settle()
            yield Held(tram=state)

    app = FastAPI(
        title="Tramontane",
        lifespan=lifespan,
        version="0.1.0",
        redirect_slashes=False,
        openapi_url=None,  # `api.routes.documents` has it
        generate_unique_id_function=lambda route: route.name,
    )
    app.add_middleware(RequestId)
    app.add_exception_handler(TramError, errors.handle)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(HTTPException, _not_routed)
    app.add_exception_handler(Exception, _unknown)
    for routes in _ROUTES:
        app.include_router(routes.router)
    return app


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[State]:
    """Everything a route may use; closed in the reverse order, whatever happens."""
    own_card = named(settings.model) if settings.model else None
    spare_card = default_card(device())
    # Before the first request: a tokenizer takes longer to load than a caller would like to wait.
    await asyncio.to_thread(counter_for, own_card or spare_card)
    async with stores.opened(**settings.stores) as held, AsyncExitStack() as stack:
        reader, outbound = TokenReader(held.redis), Outbound(settings.webhook_networks)
        fleet = Fleet(held.redis, own_card, spare_card)
        for part in (reader, fleet, outbound):
            await part.open()
            stack.push_async_callback(part.close)
        metrics = FleetMetrics(lambda: fleet.view.workers)
        REGISTRY.register(metrics)
        stack.callback(REGISTRY.unregister, metrics)
        yield State(
            settings=settings,
            database=held.database,
            redis=held.redis,
            reader=reader,
            writer=held.stream,
            publisher=held.publisher,
            objects=held.objects,
            fleet=fleet,
            intake=Intake(held.database, fleet, Images(outbound), settings.webhook_networks),
        )


async def _not_valid(request: Request, error: Exception) -> Response:
    """A query or path parameter of the wrong kind; bodies are validated by their routes."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    param = str(first["loc"][-1])
    return errors.respond(request, InvalidRequest(f"{param}: {first['msg']}", param=param))


async def _not_routed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:  # noqa: PLR2004
        return errors.respond(request, NotFound("there is no such endpoint", code="unknown_endpoint"))
    answer = errors.respond(request, InvalidRequest(str(error.detail), code="method_not_allowed"))
    answer.status_code = error.status_code
    answer.headers["allow"] = _allowed(request)
    return answer


def _allowed(request: Request) -> str:
    """Of all routes at this address; Starlette's own header tells the first one's."""
    routes = (route for part in _ROUTES for route in part.router.routes if isinstance(route, Route))
    there = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return ", ".join(sorted({method for route in there for method in route.methods or ()}))


async def _unknown(request: Request, error: Exception) -> Response:
    """Starlette runs this one outside all middleware, so what `RequestId` does is done here again."""
    request_id = request.scope["request_id"]
    with structlog.contextvars.bound_contextvars(request_id=request_id):
        log.error("a request broke", exc_info=error)
    words = "something broke on our side; the server's log has it under this request id"
    answer = errors.respond(request, TramError(words))
    answer.headers["x-request-id"] = request_id
    return answer
