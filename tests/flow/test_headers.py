"""What stands beside an answer: how long it took and waited, how long the queue is, what made it.  On both columns."""

from uuid import uuid4

import pytest

from models.ids import completion_of
from tests.flow.engine import tokens
from tests.flow.sse import events, text_of
from tests.flow.stack import Stack, said, until


def chat(text: str, **fields: object) -> dict[str, object]:
    return {"messages": said(text), **fields}


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_says_how_long_it_took_and_waited(tram: Stack, stream: bool):
    given = uuid4().hex
    body = chat("!tokens=3 first=0.3", stream=stream)
    answer = tram.http.post("/v1/chat/completions", json=body, headers={"X-Request-Id": given})
    job = tram.ended(answer.headers["x-tram-job"])
    assert answer.headers["x-request-id"] == given
    assert int(answer.headers["x-queue-wait-ms"]) == job["timing"]["queued_ms"]
    assert 300 <= job["timing"]["ttft_ms"] <= int(answer.headers["openai-processing-ms"]) + 1_000
    assert int(answer.headers["openai-processing-ms"]) >= 300, "until the first word, or the whole"


def test_who_comes_back_is_told_the_same_wait(tram: Stack):
    job_id = tram.submit("!tokens=3")
    waited = str(tram.ended(job_id)["timing"]["queued_ms"])
    for path in (f"/v1/jobs/{job_id}/events", f"/v1/chat/completions/{completion_of(job_id)}?stream=true"):
        assert tram.http.get(path).headers["x-queue-wait-ms"] == waited


@pytest.mark.usefixtures("full")
def test_who_does_not_wait_is_told_who_goes_first(tram: Stack):
    """Jobs of a more urgent tier go first; those of a less urgent one do not."""
    asked = [
        ("/v1/jobs", {}),
        ("/v1/jobs", {}),
        ("/v1/jobs", {"service_tier": "priority"}),
        ("/v1/jobs", {"service_tier": "flex"}),
        ("/v1/chat/completions", {"background": True}),
    ]
    places = []
    for number, (path, fields) in enumerate(asked, 1):
        answer = tram.http.post(path, json=chat("!tokens=1", **fields))
        places.append(answer.headers["x-queue-position"])
        until(lambda number=number: tram.queued("tiny") == number, 20)  # it is published once it is promised
    assert places == ["0", "1", "0", "3", "3"]
    for job in tram.listed("/v1/jobs", state="queued"):
        tram.http.delete(f"/v1/jobs/{job['id']}").raise_for_status()


def test_who_holds_the_line_is_told_no_place(tram: Stack):
    assert "x-queue-position" not in tram.http.post("/v1/chat/completions", json=chat("!tokens=1")).headers


def test_what_made_the_answer_is_told_everywhere(tram: Stack):
    (fingerprint,) = tram.http.get("/v1/models/tiny").json()["system_fingerprints"]
    assert tram.chat("!tokens=2")["system_fingerprint"] == fingerprint
    with tram.streamed("!tokens=2") as response:
        chunks = [event.chunk for event in events(response) if event.data != "[DONE]"]
        job_id = response.headers["x-tram-job"]
    assert {chunk["system_fingerprint"] for chunk in chunks} == {fingerprint}
    stored = tram.http.get(f"/v1/chat/completions/{completion_of(job_id)}").json()
    assert stored["system_fingerprint"] == tram.ended(job_id)["result"]["system_fingerprint"] == fingerprint
    assert [event.chunk for event in tram.follow(job_id)[:-1]] == chunks


def test_a_repeated_stream_joins_the_running_one(tram: Stack):
    body, key = chat("!tokens=20 rate=20", stream=True), {"Idempotency-Key": uuid4().hex}
    with tram.http.stream("POST", "/v1/chat/completions", json=body, headers=key) as first:
        lines = events(first)
        begun = next(lines)
        with tram.http.stream("POST", "/v1/chat/completions", json=body, headers=key) as second:
            assert second.headers["idempotent-replayed"] == "true"
            joined = list(events(second))
        assert [begun, *lines] == joined
    assert text_of(joined[:-1]) == tokens(20)
    later = tram.http.post("/v1/chat/completions", json=body, headers=key)
    assert later.text == "".join(
        event.raw + "\n\n" if not event.raw.endswith("\n\n") else event.raw for event in joined
    )
    assert tram.engine.state()["running"] == 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_failure_is_told_again_under_its_key(tram: Stack, stream: bool):
    body, key = chat("!status=500", stream=stream), {"Idempotency-Key": uuid4().hex}
    first, second = (tram.http.post("/v1/chat/completions", json=body, headers=key) for _ in range(2))
    assert (first.status_code, first.json()) == (second.status_code, second.json())
    assert first.status_code == 500
    assert first.headers["x-should-retry"] == second.headers["x-should-retry"] == "false"
    assert "x-should-retry" not in tram.http.post("/v1/chat/completions", json=body).headers


def test_what_was_refused_takes_no_key(tram: Stack):
    key = {"Idempotency-Key": uuid4().hex}
    assert tram.http.post("/v1/jobs", json=chat("!tokens=1", n=0), headers=key).status_code == 400
    assert tram.http.post("/v1/jobs", json=chat("!tokens=1"), headers=key).status_code == 202


def test_a_repeated_replay_is_the_one_that_was_made(tram: Stack):
    source = tram.submit("!tokens=2")
    tram.ended(source)
    body, key = {"source_request_id": source}, {"Idempotency-Key": uuid4().hex}
    first, second = (tram.http.post("/v1/replays", json=body, headers=key) for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["id"] == second.json()["id"]
    assert (first.headers.get("idempotent-replayed"), second.headers["idempotent-replayed"]) == (None, "true")
    other = tram.http.post("/v1/replays", json=body | {"overrides": {"seed": 1}}, headers=key)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
