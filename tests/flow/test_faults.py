"""What survives when a process dies?  Each fault is one process killed while jobs run; nothing accepted is lost."""

import signal
import sqlite3
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import httpx2
import pytest

from tests.flow.engine import answers, tokens
from tests.flow.hooks import Hooks, told
from tests.flow.sse import Event, events, numbers, text_of
from tests.flow.stack import FINAL, Stack, until

pytestmark = pytest.mark.timeout(300)


def all_ended(stack: Stack, made: list[str], within_s: float = 120) -> list[dict]:
    wanted = set(made)
    jobs: list[dict] = []

    def over() -> bool:
        jobs[:] = [job for job in stack.listed("/v1/jobs") if job["id"] in wanted]
        return len(jobs) == len(wanted) and all(job["state"] in FINAL for job in jobs)

    until(over, within_s, pause_s=0.5)
    return [stack.job(job["id"]) for job in jobs]


def test_200_jobs_outlive_two_deaths_of_their_worker(faulty: Stack, hooks: Hooks):
    engine = faulty.engine
    before = engine.state()["finished"]
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda _: faulty.submit("!tokens=20 rate=20", webhook_url=hooks.url), range(200)))
    for finished in (20, 60):
        engine.wait(min_finished=before + finished, min_running=1)
        faulty.restarted("worker", faulty.kill("worker"))
    ended = all_ended(faulty, made)
    assert Counter(job["state"] for job in ended) == {"completed": 200}
    assert answers(ended) == {(tokens(20), 20): 200}
    assert any(job["attempt"] > 1 for job in ended), "the kills must have hit running jobs"
    until(lambda: len({told(sent).event["data"]["id"] for sent in hooks.seen}) == 200, 60)
    ids = {(told(sent).event["data"]["id"], told(sent).event["id"]) for sent in hooks.seen}
    assert len(ids) == 200, "one event id a job, however often it is sent"
    assert {job_id for job_id, _ in ids} == set(made)


@pytest.mark.parametrize("how", ["ctrl-c", "the supervisor is killed"])
def test_jobs_finish_after_a_restart_of_everything(faulty: Stack, how: str):
    """What had ended stands as it did; no process is left in between."""
    before = faulty.ended(faulty.submit("!tokens=3"))
    made = [faulty.submit("!tokens=50 rate=20") for _ in range(40)]
    faulty.engine.wait(running=32)
    if how == "ctrl-c":
        faulty.stop(signal.SIGINT)
    else:
        faulty.kill_supervisor()
    assert faulty.processes() == {}
    faulty.engine.wait(running=0)
    faulty.start()
    ended = all_ended(faulty, made)
    assert Counter(job["state"] for job in ended) == {"completed": 40}
    assert answers(ended) == {(tokens(50), 50): 40}
    assert faulty.job(before["id"]) == before


def test_a_worker_that_dies_when_all_is_said(faulty: Stack):
    """Between its last word and the row: the next one has nothing to add, and counts what was said."""
    job_id = faulty.submit("!tokens=40 rate=20")
    path = f"/v1/jobs/{job_id}/events"
    options = {"stream_options": {"include_usage": True}}
    with faulty.streamed("!tokens=40 rate=20", **options) as chatting, faulty.http.stream("GET", path) as following:
        chat, stream = events(chatting), events(following)
        faulty.engine.wait(running=2)
        with _nobody_writes(faulty):
            said = _up_to('"stop"', stream), _up_to('"usage":{', chat)
            old = faulty.kill("worker")
        seen, heard = said[0] + list(stream), said[1] + list(chat)
    faulty.restarted("worker", old)
    assert text_of(seen) == text_of(heard) == tokens(40)
    assert numbers(seen) == list(range(1, len(seen) + 1))
    assert [event.data for event in heard[len(said[1]) :]] == ["[DONE]"]
    jobs = [faulty.job(name) for name in (job_id, chatting.headers["x-tram-job"])]
    assert {(job["state"], job["attempt"]) for job in jobs} == {("completed", 2)}
    assert answers(jobs) == {(tokens(40), 40): 2}
    assert jobs[0]["usage"]["prompt_tokens"] == jobs[1]["usage"]["prompt_tokens"] > 0
    assert jobs[1]["usage"] == heard[-2].chunk["usage"] | {"cost": 0.0}


def test_a_stream_that_the_api_took_along_is_rejoined(faulty: Stack):
    """Both parts together are, byte for byte, what is stored."""
    seen: list[Event] = []
    with faulty.streamed("!tokens=60 rate=20") as response:
        job_id, stream = response.headers["x-tram-job"], events(response)
        seen += [next(stream) for _ in range(10)]
        old = faulty.kill("api")
        with pytest.raises(httpx2.TransportError):
            seen.extend(stream)
    faulty.restarted("api", old)
    rest = faulty.follow(job_id, seen[-1].id)
    assert text_of(seen + rest) == tokens(60)
    assert rest[-1].event == "end"
    assert "".join(event.raw for event in seen + rest) == "".join(event.raw for event in faulty.follow(job_id))


@contextmanager
def _nobody_writes(stack: Stack) -> Iterator[None]:
    """Holds the database's one lock: what has been said cannot be written down."""
    path = stack.folder / "data" / "tramontane.db"
    with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


def _up_to(words: str, stream: Iterator[Event]) -> list[Event]:
    seen = [next(stream)]
    while words not in seen[-1].data:
        seen.append(next(stream))
    return seen
