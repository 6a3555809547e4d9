"""What do callers notice when the engine dies, refuses, or is no longer wanted?  On both columns."""

import http.client
import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.flow.engine import Engine, answers, tokens
from tests.flow.sse import events, numbers, text_of
from tests.flow.stack import Stack, said, until

WEATHER = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
JSON = {"type": "json_object"}
ABORT_S = 1.0


def test_a_connection_that_breaks_twice_is_not_noticed(tram: Stack):
    job_id = tram.submit("!tokens=12 fail_after=5 rate=50")
    stream = tram.follow(job_id)
    assert text_of(stream) == tokens(12)
    assert numbers(stream) == list(range(1, len(stream) + 1))
    job = tram.job(job_id)
    assert (job["state"], job["attempt"]) == ("completed", 3)
    assert answers([job]) == {(tokens(12), 12): 1}
    assert tram.follow(job_id)[-2].data == stream[-2].data, "what is stored is what was sent"


def test_an_engine_that_dies_in_mid_answer_is_waited_for(tram: Stack):
    job_id = tram.submit("!tokens=7 fail_after=4 die rate=20")
    tram.engine.died()
    until(lambda: tram.job(job_id)["state"] == "queued", 30)
    tram.engine.start()
    assert text_of(tram.follow(job_id)) == tokens(7)
    job = tram.job(job_id)
    assert (job["state"], job["attempt"]) == ("completed", 2), "no attempt is spent on an engine that is away"
    assert answers([job]) == {(tokens(7), 7): 1}


def test_an_answer_that_cannot_be_continued_begins_anew_and_says_so(tram: Stack):
    """Under a grammar: the text so far is not the whole state.  A job's follower is told, a chat ends with an error."""
    job_id = tram.submit("!tokens=60 rate=30", response_format=JSON)
    with tram.streamed("!tokens=60 rate=30", response_format=JSON) as response:
        lines = events(response)
        seen = [next(lines) for _ in range(4)]
        tram.engine.wait(running=2)
        tram.engine.kill()
        tram.engine.start()
        rest = list(lines)
    assert [event.event for event in seen + rest] == [None] * len(seen + rest)
    failure = rest[-1].chunk["error"]
    assert (failure["code"], failure["type"], set(failure)) == (
        "stream_interrupted",
        "server_error",
        {"message", "type", "param", "code"},
    )
    assert tokens(60).startswith(text_of((seen + rest)[:-1]))
    stream = tram.follow(job_id)
    assert [event.event for event in stream if event.event] == ["restart", "end"]
    assert text_of(stream) == tokens(60)
    assert answers([tram.job(job_id)]) == {(tokens(60), 60): 1}
    until(lambda: tram.job(response.headers["x-tram-job"])["state"] == "cancelled", 30)


def test_an_engine_that_aborts_by_itself_is_asked_again(tram: Stack):
    job_id = tram.submit("!tokens=30 rate=20")
    said_before = tram.engine.wait(running=1)["tokens"]
    tram.engine.wait(min_tokens=said_before + 5)
    tram.engine.abort_all()
    stream = tram.follow(job_id)
    assert text_of(stream) == tokens(30)
    assert numbers(stream) == list(range(1, len(stream) + 1))
    assert "abort" not in "".join(event.data for event in stream)
    assert answers([tram.job(job_id)]) == {(tokens(30), 30): 1}


def test_a_job_that_kills_every_engine_fails_in_the_end(tram: Stack):
    job = tram.ended(tram.submit("!tokens=20 fail_after=1", tools=WEATHER))
    assert (job["state"], job["status"], job["attempt"], job["error_code"]) == ("failed", "failed", 5, "engine_lost")


def test_a_full_engine_is_asked_again_and_nobody_sees_it(tram: Stack):
    before = tram.engine.state()["seen"]
    job_id = tram.submit("!error_event")
    tram.engine.wait(min_seen=before + 4)
    job = tram.job(job_id)
    assert (job["state"], job["attempt"], job["error"]) == ("in_progress", 1, None)
    tram.http.delete(f"/v1/jobs/{job_id}")
    assert tram.ended(job_id)["state"] == "cancelled"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "answered", "kind", "code"),
    [(400, 400, "invalid_request_error", "invalid_request"), (500, 500, "server_error", "engine_error")],
)
def test_what_the_engine_refuses_has_its_status(tram: Stack, stream, status, answered, kind, code):
    answer = tram.http.post("/v1/chat/completions", json={"messages": said(f"!status={status}"), "stream": stream})
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"]) == (answered, kind, code)
    assert f"scripted {status}" in error["message"]
    job = tram.job(answer.headers["x-tram-job"]) if "x-tram-job" in answer.headers else tram.listed("/v1/jobs")[0]
    assert (job["state"], job["error_code"]) == ("failed", code)


@pytest.mark.parametrize("script", ["!tokens=1000 rate=20", "!hang"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_who_hangs_up_frees_the_engine_within_a_second(tram: Stack, script, stream):
    """Before the first token and after it."""
    took_s = _hang_up(tram, script, stream=stream)
    assert took_s < ABORT_S or _hang_up(tram, script, stream=stream) < ABORT_S, "a crowded machine has one more try"


def _hang_up(tram: Stack, script: str, *, stream: bool) -> float:
    """Seconds from the hang-up to the abort, by the one clock of this machine."""
    connection = http.client.HTTPConnection("127.0.0.1", tram.port, timeout=30)
    body = json.dumps({"messages": said(script), "stream": stream})
    connection.request("POST", "/v1/chat/completions", body, {"Authorization": f"Bearer {tram.key}"})
    tokens_before = tram.engine.wait(running=1)["tokens"]
    if "rate" in script:
        tram.engine.wait(min_tokens=tokens_before + 3)
    job_id = tram.listed("/v1/jobs", state="in_progress")[0]["id"]
    left_at = time.time()
    connection.close()
    aborted = tram.engine.aborted(job_id)
    job = tram.ended(job_id)
    assert (job["state"], job["error_code"]) == ("cancelled", "cancelled")
    assert job["usage"]["completion_tokens"] == aborted["tokens"]
    tram.engine.wait(running=0)
    return aborted["at_s"] - left_at


def test_a_worker_told_to_stop_hands_back_what_it_cannot_end(tram: Stack):
    """Not its lease brings the job back: when the worker is gone, the job waits already for the next."""
    before = tram.engine.state()["tokens"]
    job_id = tram.submit("!tokens=120 rate=25")
    tram.engine.wait(min_tokens=before + 10)
    old = tram.kill("worker", signal.SIGTERM)
    until(lambda: tram.processes().get("worker") != old, 30)
    job = tram.job(job_id)
    assert job["attempt"] == 2
    assert job["state"] == "queued" or "worker" in tram.processes()
    assert tram.engine.aborted(f"{job_id}-1")["tokens"] < 120
    assert text_of(tram.follow(job_id)) == tokens(120)
    assert answers([tram.job(job_id)]) == {(tokens(120), 120): 1}


def test_a_job_outlives_its_worker_and_its_stream_goes_on(tram: Stack):
    before = tram.engine.state()["tokens"]
    made = [tram.submit("!tokens=60 rate=20") for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        following = [pool.submit(tram.follow, job_id) for job_id in made]
        tram.engine.wait(min_tokens=before + 60)
        tram.restarted("worker", tram.kill("worker"))
        streams = [future.result(60) for future in following]
    for stream in streams:
        assert text_of(stream) == tokens(60)
        assert numbers(stream) == list(range(1, len(stream) + 1))
        assert {event.id.partition("-")[0] for event in stream} == {"1", "2"}
    jobs = [tram.job(job_id) for job_id in made]
    assert {(job["state"], job["attempt"]) for job in jobs} == {("completed", 2)}
    assert answers(jobs) == {(tokens(60), 60): 3}


def test_a_joined_engine_that_is_stuck_gives_its_jobs_back(tmp_path):
    """It answers, and makes no token: the worker cannot start it again, but others could have its jobs."""
    settings = {"TRAM_ENGINE_STUCK_S": "2", "TRAM_CONCURRENCY": "4"}
    with Engine() as engine, Stack(tmp_path, engine, **settings) as stack:
        slow = stack.submit("!tokens=60 rate=20")
        assert stack.ended(slow)["attempt"] == 1, "slow is not stuck"
        stuck = stack.submit("!hang")
        until(lambda: stack.job(stuck)["attempt"] > 1, 30)
        assert "is stuck (1 requests, and no token" in stack.log("worker")
        stack.http.delete(f"/v1/jobs/{stuck}")
        assert stack.ended(stuck)["state"] == "cancelled"
        assert stack.chat("!tokens=3")["choices"][0]["message"]["content"] == tokens(3), "well again"
