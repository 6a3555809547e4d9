"""May messages be taken now?  Not while the engine is away: they are left to workers whose engine runs.

The pool's loop opens and shuts the gate, Celery's consumer looks at it before it asks Redis for a message.  What Redis was asked
for before is still taken, or it would lie unread in a socket: `workers.generate` sends it back.  Relies on Celery to ask its
channel's `can_consume` (as its own `worker_disable_prefetch` does); refuses nobody once it is open.
"""

import socket
from contextlib import suppress
from typing import Any

from celery import Celery, bootsteps
from celery.worker.consumer.tasks import Tasks


class Gate:
    """Shut at first.  `is_open` is read by both threads, and written by the pool's."""

    def __init__(self) -> None:
        self.is_open = False
        self.bell, self._clapper = socket.socketpair()
        for end in (self.bell, self._clapper):
            end.setblocking(False)

    def open(self) -> None:
        """At once: the consumer would look again only when something happens, within a second."""
        self.is_open = True
        with suppress(BlockingIOError):  # it has not heard the last hundreds of times, and will
            self._clapper.send(b"\0")

    def shut(self) -> None:
        self.is_open = False

    def hear(self) -> None:
        with suppress(BlockingIOError):
            self.bell.recv(4096)

    def close(self) -> None:
        self.bell.close()
        self._clapper.close()


def stand_before(app: Celery, gate: Gate) -> None:
    """Lets the workers of `app` take messages only while `gate` is open."""
    app.conf.update(tram_gate=gate)
    app.steps["consumer"].add(_Gated)


class _Gated(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """Part of a consumer's start: the first one, and each after a lost connection."""

    requires = (Tasks,)

    def start(self, consumer: Any) -> None:
        gate: Gate = consumer.app.conf["tram_gate"]
        channel = consumer.task_consumer.channel
        has_room = channel.qos.can_consume
        channel.qos.can_consume = lambda: (gate.is_open or bool(channel._in_poll)) and has_room()  # noqa: SLF001

    def register_with_event_loop(self, consumer: Any, hub: Any) -> None:
        gate: Gate = consumer.app.conf["tram_gate"]
        hub.add_reader(gate.bell, gate.hear)
