"""What `tram replay` prints and how it exits: verdicts of turns asked again, and a load test made of what was recorded."""

import json
import subprocess
from uuid import uuid4

import pytest

from tests.flow.engine import tokens
from tests.flow.hooks import Hooks
from tests.flow.stack import Stack, said, tram


@pytest.fixture
def job(embedded: Stack) -> str:
    job_id = embedded.submit("!tokens=4", temperature=0)
    embedded.ended(job_id)
    return job_id


def run(stack: Stack, *words: str) -> tuple[int, str]:
    done = subprocess.run(
        (tram(), "replay", *words),
        check=False,
        env=stack._environment | {"COLUMNS": "200"},
        cwd=stack.folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout + done.stderr


def test_what_is_the_same_exits_with_0(embedded: Stack, job: str):
    status, told = run(embedded, job, "--repeats", "2")
    assert (status, told.count("not_deterministic")) == (0, 2)
    assert "identical (2 identical)" in told


def test_what_is_not_exits_with_2_and_says_where(embedded: Stack, job: str):
    status, told = run(embedded, job, "--override", "max_tokens=2", "--system", "be brief", "--json")
    view = json.loads(told)
    assert (status, view["verdict"]) == (2, "diverged")
    (turn,) = view["turns"]
    assert (turn["target_output"], turn["first_difference"]["token"]) == (tokens(2), 2)
    assert embedded.engine.requests()[-1]["messages"][0] == {"role": "system", "content": "be brief"}
    status, told = run(embedded, job, "--override", "max_tokens=2")
    assert (status, "diverged" in told, "overridden" in told) == (2, True, True)


def test_a_conversation_can_be_live_and_looked_at_less_closely(embedded: Stack, job: str):
    name = embedded.job(job)["conversation_id"]
    assert run(embedded, name, "--history", "live", "--mode", "tools")[0] == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "name a job"),
        (("job_1", "--since", "1d"), "name a job"),
        (("--since", "soon"), "write a span such as"),
        (("--since", "1d", "--speed", "fast"), "write a speed such as"),
        (("--since", "1d", "--speed", "0x"), "write a speed such as"),
        (("job_1", "--override", "seed"), "write name=JSON"),
    ],
)
def test_what_cannot_be_meant_is_said(embedded: Stack, words: tuple[str, ...], told: str):
    status, text = run(embedded, *words)
    assert status != 0
    assert told in " ".join(text.replace("│", " ").split())


def test_recorded_traffic_is_sent_again_once_and_not_again_and_again(embedded: Stack):
    account = uuid4().hex
    key = embedded.command("keys", "create", "--account", account)
    with embedded.client(key) as http:
        for number in (1, 2, 3):
            body = {"messages": said(f"!tokens={number}"), "seed": number}
            http.post("/v1/chat/completions", json=body).raise_for_status()
    load = ("--since", "10m", "--speed", "100x", "--account", account, "--key", key)
    status, told = run(embedded, *load, "--json")
    report = json.loads(told)
    assert (status, report["sent"], report["answered"], report["failed"]) == (0, 3, 3, 0)
    assert {request["seed"] for request in embedded.engine.requests()[-3:]} == {1, 2, 3}, "at 100x they meet on the way"
    with embedded.client(key) as http:
        stored = http.get("/v1/chat/completions").json()["data"]
    assert len(stored) == 3, "what was sent again is kept nowhere"
    assert report["ttft_ms"]["recorded"]["p50"] >= 0 < report["latency_ms"]["replayed"]["p99"]
    status, told = run(embedded, *load, "--limit", "2")
    assert (status, "sent 2 in" in told) == (0, True), "what a load test has sent is no traffic"
    status, told = run(embedded, *load, "--target", embedded.engine.url, "--model", "tiny")
    assert "3 answered, 0 failed" in told, "any server that speaks OpenAI's chat completions"


def test_a_strangers_server_is_told_only_a_key_that_was_typed(embedded: Stack, hooks: Hooks):
    account = uuid4().hex
    key = embedded.command("keys", "create", "--account", account)
    with embedded.client(key) as http:
        http.post("/v1/chat/completions", json={"messages": said("!tokens=1")}).raise_for_status()
    load = ("--since", "10m", "--account", account, "--target", hooks.url)
    run(embedded, *load)
    run(embedded, *load, "--key", "sk-theirs")
    assert [sent.headers.get("authorization") for sent in hooks.sent(2)] == [None, "Bearer sk-theirs"]


def test_nothing_to_send_is_told_by_the_exit_status(embedded: Stack):
    account = uuid4().hex
    embedded.command("keys", "create", "--account", account)
    status, told = run(embedded, "--since", "1m", "--account", account)
    assert (status, "sent 0 in" in told) == (2, True)
