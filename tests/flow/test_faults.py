"""What survives when a process dies?  Each fault is one process killed, or cut off, while jobs run; nothing accepted is lost."""

import signal
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.flow.conftest import Engine
from tests.flow.stack import Stack, until

pytestmark = pytest.mark.timeout(300)
FINAL = {"completed", "failed", "cancelled", "expired"}


def jobs_of(stack: Stack) -> list[dict]:
    """Every job, through the list's pages."""
    found: list[dict] = []
    while True:
        after = {"after": found[-1]["id"]} if found else {}
        page = stack.http.get("/v1/jobs", params={"limit": 100, **after}).json()
        found += page["data"]
        if not page["has_more"]:
            return found


def test_200_jobs_outlive_two_deaths_of_their_worker(faulty: Stack, receiver_url: Callable[[], tuple[str, list]]):
    url, events = receiver_url()
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda n: faulty.submit(f"job {n} !tokens=20 rate=20", webhook_url=url)["id"], range(200)))
    for _ in range(2):
        until(lambda: any(job["state"] == "in_progress" for job in jobs_of(faulty)), 30)
        faulty.restarted("worker", faulty.kill("worker"))
    until(lambda: all(job["state"] in FINAL for job in jobs_of(faulty)), 120)
    ended = jobs_of(faulty)
    assert sorted(job["id"] for job in ended) == sorted(made)
    assert Counter(job["state"] for job in ended) == {"completed": 200}
    whole = " ".join(f"token {n}" for n in range(1, 21))
    for job in ended:
        assert faulty.job(job["id"])["result"]["choices"][0]["message"]["content"].strip() == whole
    until(lambda: len({event["data"]["id"] for event in events}) == 200, 30)
    ids = {event["data"]["id"]: event["id"] for event in events}
    assert len(set(ids.values())) == 200
    assert all(ids[event["data"]["id"]] == event["id"] for event in events), (
        "one event id a job, however often it is sent"
    )
    assert any(job["attempt"] > 1 for job in ended), "the kills must have hit running jobs"


def test_jobs_finish_after_a_restart_of_everything(start: Callable[..., Stack], engine: Engine):
    stack = start(TRAM_ENGINE_URL=engine.url)
    made = [stack.submit("!tokens=100 rate=20")["id"] for _ in range(8)]
    engine.wait(min_running=8)
    stack.stop(signal.SIGINT)
    stack.start()
    assert [stack.ended(job_id, 60)["state"] for job_id in made] == ["completed"] * 8
    whole = " ".join(f"token {n}" for n in range(1, 101))
    for job_id in made:
        assert stack.job(job_id)["result"]["choices"][0]["message"]["content"].strip() == whole
