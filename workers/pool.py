"""How does one worker process run hundreds of tasks on one asyncio loop?

A Celery pool (`CELERY_CUSTOM_WORKER_POOL=workers.pool:AioPool`, `-P custom`).  Celery's consumer keeps the main thread, one uvloop
in a second thread runs every task.  Outcomes come back through a socket that the consumer's event loop watches, so everything
that touches the broker stays on the main thread.  `prepare` says what tasks stand on and how long a stop waits for them.  Relies
on Celery to hand over no more than `-c` tasks at a time; refuses a broker that Celery's event loop cannot watch.
"""

import asyncio
import logging
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from itertools import count
from typing import Any

import uvloop
from celery import Celery, signals
from celery.concurrency.base import BasePool
from celery.exceptions import ImproperlyConfigured
from celery.worker import state

from workers.task import Refusals, Step, carry

Lifespan = Callable[[], AbstractAsyncContextManager[Any]]
Outcome = tuple[int, Any, float]  # as Celery's trace answers: failed or not, value or ExceptionInfo, seconds

HAND_BACK_S = 4.0  # a cancelled body writes one row; past this it is stuck
CLOSE_S = 4.0  # closing the lifespan's connections; past this the process ends without
_LOOK_S = 0.2  # how soon a stop is noticed while the lifespan is still starting
_NOTHING: Outcome = (0, None, 0.0)

log = logging.getLogger(__name__)


def prepare(app: Celery, lifespan: Lifespan, *, drain_s: float, drain: Step | None = None) -> None:
    """Says what the tasks of `app` stand on: `lifespan` is entered before the first one, and its value given to each body.

    On a stop `drain` is called with that value; running tasks then have `drain_s` seconds before they are cancelled.
    """
    app.conf.update(tram_lifespan=lifespan, tram_drain_s=drain_s, tram_drain=drain, worker_pool="workers.pool:AioPool")
    app.steps["worker"].add(Refusals)


@dataclass(slots=True, eq=False)
class _Job:
    number: int
    trace: Callable[..., Outcome]
    args: tuple[Any, ...]
    callback: Callable[[Outcome], Any]


class _Lane:
    """The loop and its thread.  Public methods are for Celery's thread; those with an underscore run on the loop."""

    def __init__(self, lifespan: Lifespan, drain_s: float, drain: Step | None) -> None:
        self._lifespan, self._drain_s, self._drain = lifespan, drain_s, drain
        self._context: Any = None
        self._inbox: deque[_Job] = deque()
        self._running: dict[int, asyncio.Task[None]] = {}
        self._done: deque[tuple[_Job, Outcome]] = deque()
        self._poked = self._rung = False  # one wake-up serves every job, or outcome, that came meanwhile
        self.bell, self._clapper = socket.socketpair()
        self.bell.setblocking(False)
        self._loop = uvloop.new_event_loop()
        self._stopping = asyncio.Event()
        self._patience: asyncio.Task[None] | None = None
        self._entered = threading.Event()
        self._error: BaseException | None = None
        self.alive = True
        self._thread = threading.Thread(target=self._main, name="aiopool", daemon=True)

    def start(self) -> None:
        """Returns when the lifespan is entered; raises what it raised, or Celery's wish to shut down."""
        self._thread.start()
        try:
            while not self._entered.wait(_LOOK_S):
                state.maybe_shutdown()
        except BaseException:
            self._call(self._abort)
            self._thread.join(CLOSE_S)
            raise
        self.raise_error()

    def raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def submit(self, job: _Job) -> None:
        self._inbox.append(job)
        if not self._poked:
            self._poked = True
            self._call(self._take)

    def cancel(self, number: int) -> None:
        self._call(self._cancel, number)

    def stop(self) -> None:
        self._call(self._stopping.set)

    def cut(self) -> None:
        """Like `stop`, or during it: without waiting any longer."""
        self._call(self._cut)

    def outcomes(self) -> Iterator[tuple[_Job, Outcome]]:
        with suppress(BlockingIOError):
            self.bell.recv(4096)
        self._rung = False
        while self._done:
            yield self._done.popleft()

    def close(self) -> None:
        if self.alive:
            log.error("the lifespan did not end: leaving without it")
            return
        self._thread.join(CLOSE_S)  # it has nothing left to do
        self.bell.close()
        self._clapper.close()

    def _call(self, callback: Callable[..., object], *args: Any) -> None:
        with suppress(RuntimeError):  # the loop has ended, and its tasks with it
            self._loop.call_soon_threadsafe(callback, *args)

    def _main(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        except BaseException as error:  # noqa: BLE001  # raised again in Celery's thread
            self._error = error
        finally:
            self.alive = False
            self._entered.set()
            self._ring()

    async def _serve(self) -> None:
        async with self._lifespan() as self._context:
            self._entered.set()
            await self._stopping.wait()
            await self._wind_down()

    def _take(self) -> None:
        self._poked = False
        while self._inbox:
            job = self._inbox.popleft()
            self._running[job.number] = self._loop.create_task(self._run(job))

    async def _run(self, job: _Job) -> None:
        try:
            outcome = await carry(job.trace, job.args, self._context)
        except asyncio.CancelledError:
            outcome = _NOTHING
        except BaseException:  # nothing that a task raises may end the loop
            log.exception("a task raised past Celery's trace")
            outcome = _NOTHING
        del self._running[job.number]
        self._done.append((job, outcome))
        self._ring()

    def _ring(self) -> None:
        if not self._rung:
            self._rung = True
            self._clapper.send(b"\0")

    def _cancel(self, number: int) -> None:
        if task := self._running.get(number):
            task.cancel()

    def _abort(self) -> None:
        for task in asyncio.all_tasks(self._loop):
            task.cancel()

    def _cut(self) -> None:
        self._drain_s = 0.0
        self._stopping.set()
        if self._patience is not None:
            self._patience.cancel()

    async def _wind_down(self) -> None:
        self._patience = asyncio.create_task(self._see_out())
        await asyncio.wait({self._patience}, timeout=self._drain_s)
        self._patience.cancel()
        tasks = tuple(self._running.values())
        for task in tasks:
            task.cancel()
        if tasks and (stuck := (await asyncio.wait(tasks, timeout=HAND_BACK_S))[1]):
            log.error("%d tasks did not hand back their work within %.0f s", len(stuck), HAND_BACK_S)

    async def _see_out(self) -> None:
        try:
            if self._drain is not None:
                await self._drain(self._context)
        except Exception:
            log.exception("the drain hook failed; running tasks are waited for all the same")
        while self._running:
            await asyncio.wait(tuple(self._running.values()))


class AioPool(BasePool):  # type: ignore[misc]  # Celery has no types
    body_can_be_buffer = True
    signal_safe = False  # a stop waits for the loop's thread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lane: _Lane | None = None
        self._hub: Any = None
        self._ending = False
        self._numbers = count(1)

    def on_start(self) -> None:
        if self.options.get("threads"):
            raise ImproperlyConfigured("AioPool needs a broker that Celery's event loop can watch, such as Redis")
        conf = self.app.conf
        self._lane = _Lane(conf["tram_lifespan"], conf["tram_drain_s"], conf["tram_drain"])
        signals.worker_shutting_down.connect(self._on_signal)
        self._lane.start()

    def register_with_event_loop(self, hub: Any) -> None:
        """Called again after every reconnection, which empties the hub."""
        self._hub = hub
        hub.add_reader(self._started().bell, self._settle)

    def on_apply(
        self,
        target: Callable[..., Outcome],
        args: tuple[Any, ...],
        _kwargs: dict[str, Any],
        *,
        callback: Callable[[Outcome], Any],
        accept_callback: Callable[[int, float], Any],
        **_: Any,
    ) -> None:
        number = next(self._numbers)  # stands for the process id, by which Celery asks to terminate
        accept_callback(number, time.monotonic())
        self._started().submit(_Job(number, target, args, callback))

    def terminate_job(self, pid: int, _signal: Any = None) -> None:
        self._started().cancel(pid)

    def on_stop(self) -> None:
        self._end(now=_asked_to_terminate())

    def on_terminate(self) -> None:
        self._end(now=True)

    def _end(self, *, now: bool) -> None:
        lane = self._started()
        (lane.cut if now else lane.stop)()
        if self._ending:  # a signal's handler interrupted the wait below, which goes on
            return
        self._ending = True
        deadline = time.monotonic() + self.app.conf["tram_drain_s"] + HAND_BACK_S + CLOSE_S
        while lane.alive and time.monotonic() < deadline:
            self._turn(lane)
        self._settle()
        lane.close()
        lane.raise_error()

    def _turn(self, lane: _Lane) -> None:
        """One turn of Celery's loop, so that a message fetched too late goes back at once instead of after the last task."""
        if self._hub is None or _asked_to_terminate():  # a signal's handler must not re-enter the loop it interrupted
            select.select([lane.bell], [], [], 1.0)
            self._settle()
            return
        try:
            self._hub.run_once()
        except Exception as error:  # noqa: BLE001  # the stop goes on without a broker all the same
            log.warning("lost the broker while stopping: %r", error)
            self._hub = None

    def _settle(self) -> None:
        for job, outcome in self._started().outcomes():
            try:
                job.callback(outcome)
            except Exception:
                log.exception("Celery did not take a task's outcome")

    def _on_signal(self, **_: Any) -> None:
        """The first signal asks to stop; any later one says that waiting is over."""
        if self._ending:
            self._started().cut()

    def _started(self) -> _Lane:
        assert self._lane is not None, "Celery starts its pool before it consumes"
        return self._lane


def _asked_to_terminate() -> bool:
    return state.should_terminate is not None and state.should_terminate is not False
