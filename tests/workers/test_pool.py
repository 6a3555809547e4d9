"""Does the pool run many tasks on one loop, take no more than it may, survive what tasks and Redis do to it, and stop in time?"""

import signal
import time

import pytest

from infra.broker import TaskName, celery_app
from tests.workers.conftest import QUEUE, item, until

SOON_S = 10.0  # far below any drain that a test asks for in order not to see it


def test_two_hundred_tasks_run_at_once_and_no_more_are_taken(server, send, start):
    worker = start(concurrency=200)
    send(*(item("holds", number) for number in range(210)))
    began = [worker.hears("began") for _ in range(200)]
    assert {tuple(words[2:]) for words in began} == {("aiopool", "the", "context")}
    assert len({words[1] for words in began}) == 200
    until(lambda: server.waiting() == 10)


def test_a_finished_task_makes_room_for_the_next(send, start):
    worker = start(concurrency=2)
    send(*(item("brief", number) for number in range(6)))
    assert len({worker.hears("ended")[1] for _ in range(6)}) == 6


@pytest.mark.parametrize("kind", ["fails", "exits"])
def test_a_task_that_raises_is_logged_and_ends_nothing_else(server, send, start, kind):
    worker = start(concurrency=1)
    send(item(kind), item("quick"))
    worker.hears("ended", item("quick"))
    assert server.waiting() == 0
    assert {"fails": "ValueError: as asked", "exits": "SystemExit: 3"}[kind] in worker.log.read_text()


@pytest.mark.parametrize("arguments", [(), ("quick_1",), (item("quick"), "more"), ({"id": item("quick")},)])
def test_a_message_without_exactly_one_id_is_dropped(server, send, start, arguments):
    worker = start(concurrency=1)
    celery_app(server.url).send_task(str(TaskName.GENERATE), args=arguments, queue=QUEUE)
    send(item("quick", 7))
    assert worker.hears("began")[1] == item("quick", 7)
    assert "it must carry one id" in worker.log.read_text()


def test_a_stop_waits_for_running_tasks_then_closes_the_lifespan(send, start):
    worker = start(drain_s=20)
    send(item("outlasts"))
    worker.hears("began")
    worker.signal(signal.SIGTERM)
    assert worker.hears("draining")[1:] == ["the", "context"]
    worker.hears("ended", item("outlasts"))
    worker.hears("down")
    assert worker.ends() == 0


def test_a_stop_cancels_what_outlives_the_drain(send, start):
    worker = start(drain_s=0.5)
    send(item("holds", 1), item("holds", 2))
    worker.hears("began"), worker.hears("began")
    began = time.monotonic()
    worker.signal(signal.SIGTERM)
    worker.hears("draining")
    assert {worker.hears("handed_back")[1] for _ in range(2)} == {item("holds", 1), item("holds", 2)}
    assert 0.4 < time.monotonic() - began < SOON_S
    worker.hears("down")
    assert worker.ends() == 0


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGQUIT])
def test_a_second_signal_ends_the_waiting(send, start, second):
    worker = start(drain_s=300)
    send(item("holds"))
    worker.hears("began")
    worker.signal(signal.SIGTERM)
    worker.hears("draining")
    worker.signal(second)
    worker.hears("handed_back", item("holds"))
    worker.hears("down")
    worker.ends()


def test_a_cold_stop_waits_for_nothing(send, start):
    worker = start(drain_s=300)
    send(item("holds"))
    worker.hears("began")
    worker.signal(signal.SIGQUIT)
    worker.hears("handed_back", item("holds"))
    worker.hears("down")
    worker.ends()
    assert "Traceback" not in worker.log.read_text()


def test_a_message_fetched_while_stopping_goes_back_at_once(server, send, start):
    worker = start(drain_s=300)
    send(item("holds"))
    worker.hears("began")
    worker.signal(signal.SIGTERM)
    worker.hears("draining")
    send(item("quick"))
    until(lambda: server.waiting() == 1, SOON_S)
    assert worker.process.poll() is None


def test_a_killed_worker_leaves_nothing_behind_and_its_job_can_be_sent_again(server, send, start):
    first = start()
    send(item("holds"))
    first.hears("began")
    first.signal(signal.SIGKILL)
    first.ends()
    second = start()
    second.hears("up")
    assert not [key for key in server.client.scan_iter() if not key.startswith(b"_kombu.binding")]
    send(item("holds"))
    second.hears("began", item("holds"))


def test_an_idle_worker_consumes_again_when_redis_is_back(server, send, start):
    worker = start()
    send(item("quick", 1))
    worker.hears("ended", item("quick", 1))
    server.kill()
    server.start()
    send(item("quick", 2))
    began = time.monotonic()
    worker.hears("ended", item("quick", 2))
    assert time.monotonic() - began < SOON_S


def test_tasks_that_end_while_redis_is_away_make_room(server, send, start):
    """With late acknowledgement the worker would be deaf from here on: its window stays full of what it could not acknowledge."""
    worker = start(concurrency=2)
    send(item("brief", 1), item("brief", 2))
    worker.hears("began"), worker.hears("began")
    server.kill()
    worker.hears("ended"), worker.hears("ended")
    server.start()
    send(item("quick", 1), item("quick", 2), item("quick", 3))
    began = time.monotonic()
    assert len({worker.hears("ended")[1] for _ in range(3)}) == 3
    assert time.monotonic() - began < SOON_S


def test_tasks_outlive_redis(server, send, start):
    worker = start(drain_s=20)
    send(item("brief"))
    worker.hears("began")
    server.kill()
    worker.signal(signal.SIGTERM)
    worker.hears("ended", item("brief"))
    worker.hears("down")
    assert worker.ends() == 0


def test_a_lifespan_that_fails_stops_the_worker_with_its_error(start):
    worker = start(lifespan="fails")
    assert worker.ends() != 0
    assert "RuntimeError: no engine to be had" in worker.log.read_text()


def test_a_stop_during_the_lifespans_start_lets_it_clean_up(start):
    worker = start(lifespan="hangs")
    worker.hears("starting")
    worker.signal(signal.SIGTERM)
    worker.hears("given_up")
    worker.ends()


@pytest.mark.parametrize("options", [("--autoscale", "4,1"), ("--time-limit", "3"), ("--max-tasks-per-child", "9")])
def test_what_the_pool_cannot_do_is_refused_at_start(start, options):
    worker = start(*options)
    assert worker.ends() != 0
    assert f"AioPool cannot do {options[0].strip('-').replace('-', '_')}" in worker.log.read_text()


def test_a_limited_task_is_refused_at_start(start):
    worker = start(rate_limit="3/s")
    assert worker.ends() != 0
    assert "AioPool cannot do rate_limit of chat.generate" in worker.log.read_text()
