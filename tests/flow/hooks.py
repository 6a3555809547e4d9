"""The webhook receiver (tests/fakes/receiver.py) for tests that are not asynchronous: its loop runs in a thread."""

import asyncio
import json
from dataclasses import dataclass
from threading import Thread
from typing import Any, Self

from tests.fakes.receiver import Receiver, Reply, Sent
from tests.flow.stack import until

HOST = "127.0.0.2"
"""Loopback too, but not what `localhost` stands for: so one may be allowed and the other not."""


class Hooks:
    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="hooks", daemon=True)
        self._thread.start()
        self._receiver = Receiver(host=HOST)
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        return self._receiver.url

    @property
    def seen(self) -> list[Sent]:
        return self._receiver.seen

    def up(self) -> None:
        self._do(self._receiver.__aenter__())

    def down(self) -> None:
        self._do(self._receiver.__aexit__())

    def script(self, *replies: Reply) -> None:
        self._receiver.script(*replies)

    def sent(self, count: int = 1, within_s: float = 30.0) -> list[Sent]:
        """The first `count` requests, once they are there."""
        until(lambda: len(self.seen) >= count, within_s)
        return self.seen[:count]

    def _do(self, step: Any) -> None:
        asyncio.run_coroutine_threadsafe(step, self._loop).result(10)


@dataclass(frozen=True, slots=True)
class Told:
    """One delivery as its receiver reads it."""

    headers: dict[str, str]
    event: dict[str, Any]


def told(sent: Sent) -> Told:
    return Told(sent.headers, json.loads(sent.body))
