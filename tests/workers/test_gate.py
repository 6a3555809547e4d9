"""Does a worker leave messages to others while its engine is away, and take them at once when it is back?"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from tests.workers.conftest import RedisServer, item, until


@pytest.fixture
def orders(tmp_path: Path) -> Iterator[TextIO]:
    """What a worker started with `gate=orders.name` is told."""
    path = tmp_path / "orders"
    os.mkfifo(path)
    # For reading too: else it would open only when the worker reads.
    with os.fdopen(os.open(path, os.O_RDWR), "w", buffering=1) as told:
        yield told


def is_asking(server: RedisServer) -> bool:
    """Whether a worker waits in Redis for a message."""
    return any("b" in client["flags"] for client in server.client.client_list())


def test_messages_go_to_the_worker_whose_gate_is_open(send, start, tmp_path, orders):
    away = start(gate=str(tmp_path / "orders"))
    away.hears("up")
    other = start()
    other.hears("up")
    send(*(item("quick", number) for number in range(20)))
    assert {other.hears("ended")[1] for _ in range(20)} == {item("quick", number) for number in range(20)}
    print("open", file=orders)
    away.hears("gate", "open")
    other.signal(signal.SIGKILL)
    other.ends()
    send(item("quick", 20))
    assert away.hears("began")[1] == item("quick", 20), "the first that it took"


def test_the_gate_shuts_again(server, send, start, tmp_path, orders):
    worker = start(gate=str(tmp_path / "orders"))
    for number in (1, 2):
        print("open", file=orders)
        worker.hears("gate", "open")
        send(item("quick", number))
        worker.hears("ended", item("quick", number))
        until(lambda: is_asking(server))
        print("shut", file=orders)
        worker.hears("gate", "shut")
        until(lambda: not is_asking(server))
    send(item("quick", 3))
    until(lambda: server.waiting() == 1)
    assert not is_asking(server)


def test_what_redis_was_asked_for_before_is_taken(server, send, start, tmp_path, orders):
    """Redis hands it out to the worker in any case; there it must not lie unread."""
    worker = start(gate=str(tmp_path / "orders"), asks_for_s=60)
    print("open", file=orders)
    worker.hears("gate", "open")
    until(lambda: is_asking(server))
    print("shut", file=orders)
    worker.hears("gate", "shut")
    send(item("quick"))
    worker.hears("ended", item("quick"))


def test_a_shut_gate_stays_shut_over_a_new_connection(server, send, start, tmp_path, orders):
    worker = start(gate=str(tmp_path / "orders"))
    print("open", file=orders)
    worker.hears("gate", "open")
    print("shut", file=orders)
    worker.hears("gate", "shut")
    server.kill()
    server.start()
    other = start()
    other.hears("up")
    send(*(item("quick", number) for number in range(20)))
    assert len({other.hears("ended")[1] for _ in range(20)}) == 20
