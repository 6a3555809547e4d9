"""What is a task?  An id, handed to a coroutine on the worker's loop.

The row behind the id is the truth: a body claims it, and a message too many finds nothing to claim.  So a body that raises what
it should have handled is logged once and its message is spent (the row's lease brings the work back), and a message that does
not carry exactly one id is logged and dropped.  Celery's trace around a body is synchronous: it runs in a greenlet, which steps
aside (`on_loop`) while the loop runs the body (`carry`).  Nothing here retries, stores a result or knows what a job is; a worker
asked for limits or autoscaling, which the pool would silently not do, refuses to start.
"""

import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import structlog
from celery import Celery, bootsteps
from celery.exceptions import ImproperlyConfigured
from greenlet import getcurrent, greenlet

from infra.broker import TaskName
from models.ids import SUFFIX_LENGTH

Context = TypeVar("Context")
Body = Callable[[Context, str], Awaitable[None]]
Step = Callable[[Any], Awaitable[Any]]
"""What a task asks of the loop: called with the value of the pool's lifespan."""

_ID = re.compile(rf"[a-z_]+_[0-9a-z]{{{SUFFIX_LENGTH}}}")
_ASKED_OF_WORKER = ("autoscale", "time_limit", "soft_time_limit", "max_tasks_per_child", "max_memory_per_child")
_ASKED_OF_TASK = ("rate_limit", "time_limit", "soft_time_limit")

log = logging.getLogger(__name__)


def register(app: Celery, name: TaskName, body: Body[Context]) -> None:
    """Makes `name` a task of `app`: `body(value of the lifespan, id)` on the pool's loop."""

    def run(*args: Any, **kwargs: Any) -> None:
        item_id = _only_id(args, kwargs)
        if item_id is None:
            log.error("dropped a message of %s: it must carry one id", name)
            return
        on_loop(lambda context: _attend(name, body, context, item_id))

    app.task(run, name=str(name), typing=False)


def on_loop(step: Step) -> Any:
    """For a task in its greenlet: what `step` answers, awaited on the loop."""
    driver = getcurrent().parent
    if driver is None:
        raise ImproperlyConfigured("tasks run in workers.pool:AioPool only")
    return driver.switch(step)


async def carry(trace: Callable[..., Any], args: tuple[Any, ...], context: Any) -> Any:
    """What the synchronous `trace(*args)` answers, run in a greenlet that steps aside for each `on_loop`."""
    strand = greenlet(trace)
    step = strand.switch(*args)
    while not strand.dead:
        try:
            value = await step(context)
        except BaseException as error:  # noqa: BLE001  # the greenlet decides
            step = strand.throw(error)
        else:
            step = strand.switch(value)
    return step


async def _attend(name: TaskName, body: Body[Context], context: Context, item_id: str) -> None:
    structlog.contextvars.bind_contextvars(task=str(name), id=item_id)
    started = time.monotonic()
    try:
        await body(context, item_id)
    except Exception:
        log.exception("the task raised after %.3f s; its row tells what is left to do", time.monotonic() - started)
    else:
        log.debug("done in %.3f s", time.monotonic() - started)


def _only_id(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    if len(args) != 1 or kwargs or not isinstance(args[0], str):
        return None
    return args[0] if _ID.fullmatch(args[0]) else None


class Refusals(bootsteps.Step):  # type: ignore[misc]  # Celery has no types
    """Part of a worker's start."""

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        if asked := [*_asked_of_worker(options), *_asked_of_tasks(worker.app)]:
            raise ImproperlyConfigured(
                f"AioPool cannot do {', '.join(asked)}: deadlines and cancelling belong to the job"
            )


def _asked_of_worker(options: dict[str, Any]) -> Iterator[str]:
    return (name for name in _ASKED_OF_WORKER if options.get(name))


def _asked_of_tasks(app: Celery) -> Iterator[str]:
    return (
        f"{limit} of {name}"
        for name, task in app.tasks.items()
        for limit in _ASKED_OF_TASK
        if getattr(task, limit, None)
    )
