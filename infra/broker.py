"""How do tasks travel?  Through Celery on Redis lists, one id a message.

The only place where Celery is configured, and the only thread that publishes.  The row behind the id is the truth and its own
outbox: a message that is lost is published again by the sweep, one too many finds nothing to claim.  So a message is spent when a
worker takes it.  Nothing here stores a result, delays a task, retries one, or blocks the caller's loop; a broker that refuses or
hangs is `Unavailable` within `BOUND_S`.
"""

import asyncio
import logging
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from celery import Celery
from celery.app.amqp import AMQP
from kombu.common import ignore_errors
from kombu.connection import Connection
from redis.asyncio import Redis

from models.errors import Unavailable

BOUND_S = 5.0  # a failed publish: one time-out on the old connection, one on a new one, and some air
BATCH = 16  # messages a round trip; more would hold the interpreter, and so the caller's loop, for over a millisecond
WAITING = 10_000  # messages that may wait for the publisher: half a second of its work
_SOCKET_S = 2.0  # a healthy broker answers within milliseconds, a hung one never does
_HEALTH_S = 5  # a half-open connection to the broker is dropped after at most 2 x this + 1 s
_RETRY_S = {"interval_start": 0.2, "interval_step": 0.3, "interval_max": 2.0}

log = logging.getLogger(__name__)


class TaskName(StrEnum):
    GENERATE = "chat.generate"


class _Connection(Connection):
    """Kombu waits 2, 4, 6 ... 30 s between attempts, so a worker would sleep on while the broker is back."""

    def ensure_connection(self, *args: Any, **kwargs: Any) -> Any:
        return super().ensure_connection(*args, **{**_RETRY_S, **kwargs})  # type: ignore[no-untyped-call]


class _Amqp(AMQP):  # type: ignore[misc]  # Celery has no types
    Connection = _Connection


def celery_app(redis_url: str) -> Celery:
    """Celery on `redis://…`, `rediss://…` or `unix:///path`."""
    app = Celery("tramontane", broker=_broker_url(redis_url), amqp=_Amqp, set_as_current=False)
    app.conf.update(_SERIALISING | _CONSUMING | _CONNECTING)
    for chatter in ("celery.worker.strategy", "celery.app.trace"):  # two lines a task at INFO
        logging.getLogger(chatter).setLevel(logging.WARNING)
    return app


_SERIALISING = {
    "accept_content": ["json"],
    "task_serializer": "json",
    "task_ignore_result": True,
    "task_store_errors_even_if_ignored": False,
    "task_publish_retry": False,
    "task_create_missing_queues": True,
    "enable_utc": True,
}

# Acknowledging late costs two transactions a task (420 us instead of 180 us of CPU), and after an outage of Redis that outlives the
# running tasks their failed acknowledgements fill the prefetch window for good.  So messages are spent when taken, and the
# window is the number of tasks that run.
_CONSUMING = {
    "task_acks_late": False,
    "worker_disable_prefetch": True,
    "worker_prefetch_multiplier": 1,
    "worker_enable_prefetch_count_reduction": False,
    "worker_cancel_long_running_tasks_on_connection_loss": True,  # concerns late acknowledgement only; False warns each time
    "worker_disable_rate_limits": True,
    "worker_detect_quorum_queues": False,
    "worker_enable_remote_control": False,
    "worker_send_task_events": False,
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
}

_CONNECTING = {
    "broker_connection_timeout": _SOCKET_S,
    "broker_connection_retry": True,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,  # for ever: a worker without a broker waits for it
    "broker_transport_options": {
        "ack_emulation": False,
        "priority_steps": [0],  # each step is one more key to wait on, for each queue
        "queue_order_strategy": "priority",  # a tier is a queue: always the first that holds something, in the order given
        "socket_timeout": _SOCKET_S,
        "socket_connect_timeout": _SOCKET_S,
        "socket_keepalive": True,
        "health_check_interval": _HEALTH_S,
    },
}


def _broker_url(redis_url: str) -> str:
    """Kombu's spelling of a Unix socket; `?db=N` becomes its virtual host."""
    parts = urlsplit(redis_url)
    if parts.scheme != "unix":
        return redis_url
    query = parts.query.replace("db=", "virtual_host=")
    return f"redis+socket://{parts.netloc}{parts.path}" + (f"?{query}" if query else "")


async def depth(redis: Redis, *queues: str) -> int:
    """Messages in all of them that no worker has taken."""
    pipe = redis.pipeline(transaction=False)
    for queue in queues:
        pipe.llen(queue)
    return sum(await pipe.execute())


@dataclass(frozen=True, slots=True, eq=False)
class _Order:
    task: TaskName
    queue: str
    item_id: str
    waiter: asyncio.Future[None] | None


class Publisher:
    """One thread and one connection a process: publishing is Python that would hold the loop if it ran there."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._orders: SimpleQueue[_Order | None] = SimpleQueue()
        self._producer: Any = None
        self._closed = False
        self._thread = threading.Thread(target=self._main, name="publisher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Publishes what is waiting, for at most `BOUND_S` seconds."""
        self._orders.put(None)
        if self._thread.is_alive():
            self._thread.join(BOUND_S)

    async def publish(self, task: TaskName, queue: str, item_id: str) -> None:
        """Returns when the broker has the message; `Unavailable` when it refuses, hangs or the publisher is swamped."""
        waiter = asyncio.get_running_loop().create_future()
        if not self._accept(_Order(task, queue, item_id, waiter)):
            raise Unavailable("the queue takes no more tasks now")
        try:
            async with asyncio.timeout(BOUND_S):
                await waiter
        except TimeoutError:
            raise Unavailable("the queue does not answer") from None

    def publish_soon(self, task: TaskName, queue: str, item_id: str) -> None:
        """For a row that the sweep would publish anyway: neither waits nor fails."""
        if not self._accept(_Order(task, queue, item_id, None)):
            log.warning("did not publish %s: too many tasks wait", item_id)

    def _accept(self, order: _Order) -> bool:
        if self._closed or self._orders.qsize() >= WAITING:
            return False
        self._orders.put(order)
        return True

    def _main(self) -> None:
        while not self._closed:
            if batch := self._next_batch():
                self._send(batch)
        self._disconnect()
        _settle([*self._waiting()], "the publisher is closed")

    def _next_batch(self) -> list[_Order]:
        """At least one order, or none because of `close`."""
        batch: list[_Order] = []
        order = self._orders.get()
        while order is not None:
            batch.append(order)
            if len(batch) == BATCH:
                return batch
            try:
                order = self._orders.get_nowait()
            except Empty:
                return batch
        self._closed = True
        return batch

    def _send(self, batch: list[_Order]) -> None:
        connected = self._producer is not None
        failure = self._attempt(batch)
        if failure and connected:  # the broker may have restarted since the last message
            failure = self._attempt(batch)
        if failure:
            batch += self._waiting()  # each would wait for the same time-out in turn
            log.warning("could not publish %d tasks: %s", len(batch), failure)
        _settle(batch, failure)

    def _attempt(self, batch: list[_Order]) -> str:
        """Empty, or what went wrong.  A message sent twice is harmless."""
        try:
            if self._producer is None:
                self._connect()
            with self._producer.batch(max_size=BATCH):
                for order in batch:
                    self._publish(order)
        except Exception as error:  # noqa: BLE001  # of Celery, kombu, redis-py or a socket: the caller is told
            self._disconnect()
            return f"{type(error).__name__}: {error}"
        return ""

    def _publish(self, order: _Order) -> None:
        """`Celery.send_task` less its routing, result and declaring: half its cost."""
        name, amqp = str(order.task), self._app.amqp
        message = amqp.create_task_message(
            str(uuid4()),
            name,
            args=(order.item_id,),
            argsrepr="",
            kwargsrepr="",
            ignore_result=True,
            origin="tramontane",
        )
        amqp.send_task_message(self._producer, name, message, queue=order.queue, declare=[], retry=False)

    def _connect(self) -> None:
        connection = self._app.connection_for_write()
        connection.ensure_connection(max_retries=0)
        self._producer = self._app.amqp.Producer(connection, auto_declare=False)

    def _disconnect(self) -> None:
        if self._producer is not None:
            connection, self._producer = self._producer.connection, None
            # Errors of its own kind only: it may be given up because it is broken.
            ignore_errors(connection, connection.release)  # type: ignore[no-untyped-call]

    def _waiting(self) -> Iterator[_Order]:
        with suppress(Empty):
            while True:
                if order := self._orders.get_nowait():
                    yield order
                else:
                    self._closed = True


def _settle(batch: list[_Order], failure: str) -> None:
    """One wake-up of each loop for all its waiters."""
    waiters: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = defaultdict(list)
    for order in batch:
        if order.waiter is not None:
            waiters[order.waiter.get_loop()].append(order.waiter)
    for loop, futures in waiters.items():
        with suppress(RuntimeError):  # that loop has ended, and its waiters with it
            loop.call_soon_threadsafe(_resolve, futures, failure)


def _resolve(waiters: list[asyncio.Future[None]], failure: str) -> None:
    for waiter in waiters:
        if waiter.done():
            continue
        if failure:
            waiter.set_exception(Unavailable("the queue cannot be reached"))  # why is in the log: it holds addresses
        else:
            waiter.set_result(None)
