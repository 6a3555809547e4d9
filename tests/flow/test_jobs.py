"""What happens to a job: followed, rejoined, listed, cancelled, overtaken by its deadline.  On both columns."""

import json
import sqlite3
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from models.packing import unpack
from tests.flow.engine import answers, tokens
from tests.flow.hooks import Hooks, told
from tests.flow.production import Production
from tests.flow.sse import events, numbers, text_of
from tests.flow.stack import Stack, deadline_in, said, until


def test_a_job_answers_202_and_says_where_it_is(tram: Stack):
    answer = tram.http.post("/v1/jobs", json={"messages": said("!tokens=3 first=1"), "metadata": {"order": "4711"}})
    job = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (202, f"/v1/jobs/{job['id']}")
    assert (job["object"], job["result"]) == ("job", None)
    assert job["state"] == job["status"]
    assert job["state"] in {"queued", "in_progress"}
    ended = tram.ended(job["id"])
    assert ended["metadata"] == {"order": "4711"}
    assert ended["usage"]["total_tokens"] == ended["usage"]["prompt_tokens"] + 3
    assert answers([ended]) == {(tokens(3), 3): 1}
    assert 0 <= ended["timing"]["queued_ms"] <= ended["timing"]["ttft_ms"] <= ended["timing"]["total_ms"]


def test_a_stream_is_rejoined_anywhere(tram: Stack):
    """Live and after the end, from every event: what follows is what followed then."""
    job_id = tram.submit("!tokens=30 rate=30")
    live = tram.follow(job_id)
    assert text_of(live) == tokens(30)
    assert (live[-1].event, live[-1].chunk["state"]) == ("end", "completed")
    assert numbers(live) == list(range(1, len(live) + 1))
    for place in (0, 1, 15, len(live) - 2):
        assert tram.follow(job_id, live[place].id) == live[place + 1 :]
    over = tram.http.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": live[-1].id})
    assert over.status_code == 204
    by_query = tram.http.get(f"/v1/jobs/{job_id}/events", params={"last_event_id": live[-2].id})
    assert by_query.text == live[-1].raw


def test_a_running_job_is_rejoined_in_the_middle(tram: Stack):
    job_id = tram.submit("!tokens=40 rate=30")
    with tram.http.stream("GET", f"/v1/jobs/{job_id}/events") as response:
        lines = events(response)
        seen = [next(lines) for _ in range(5)]
    rest = tram.follow(job_id, seen[-1].id)
    assert rest[-1].chunk["state"] == "completed", "who leaves an observed job does not end it"
    assert seen + rest == tram.follow(job_id)
    assert text_of(seen + rest) == tokens(40)


def test_a_streamed_chat_can_be_followed_as_a_job(tram: Stack):
    options = {"stream_options": {"include_usage": True}, "max_tokens": 7}
    with tram.streamed("!tokens=20", **options) as response:
        chat = list(events(response))
        job_id = response.headers["x-tram-job"]
    assert chat[-1].data == "[DONE]"
    assert chat[-2].chunk["usage"]["completion_tokens"] == 7
    assert {chunk["id"] for chunk in (event.chunk for event in chat[:-1])} == {job_id.replace("job_", "chatcmpl-")}
    tram.ended(job_id)
    assert tram.follow(job_id)[:-1] == chat[:-1]
    assert tram.job(job_id)["result"]["choices"][0]["finish_reason"] == "length"


def test_a_queued_job_is_cancelled_at_once(tram: Stack, full: None, hooks: Hooks):
    seen = tram.engine.state()["seen"]
    job_id = tram.submit("!tokens=3", webhook_url=hooks.url)
    cancelled = tram.http.delete(f"/v1/jobs/{job_id}").json()
    assert (cancelled["state"], cancelled["status"], cancelled["error_code"]) == ("cancelled", "failed", "cancelled")
    assert told(hooks.sent()[0]).event["type"] == "chat.completion.cancelled"
    assert [event.event for event in tram.follow(job_id)] == ["end"]
    assert tram.http.delete(f"/v1/jobs/{job_id}").json() == tram.job(job_id), "asked again, it changes nothing"
    assert tram.engine.state()["seen"] == seen
    stream = tram.http.get(f"/v1/chat/completions/{job_id}", params={"stream": True})
    assert (stream.status_code, stream.json()["error"]["code"]) == (409, "cancelled")


def test_a_running_job_is_cancelled_in_the_engine_too(tram: Stack):
    job_id = tram.submit("!tokens=1000 rate=20")
    before = tram.engine.wait(running=1)["tokens"]
    tram.engine.wait(min_tokens=before + 5)
    asked = tram.http.delete(f"/v1/jobs/{job_id}").json()
    assert (asked["state"], asked["cancel_requested"]) in {("in_progress", True), ("cancelled", True)}
    job = tram.ended(job_id)
    assert (job["state"], job["error_code"]) == ("cancelled", "cancelled")
    said_until_then = job["usage"]["completion_tokens"]
    assert tram.engine.aborted(job_id)["tokens"] == said_until_then >= 5
    assert job["result"]["choices"][0]["message"]["content"] == tokens(said_until_then)
    stream = tram.follow(job_id)
    assert (text_of(stream), stream[-1].chunk["state"]) == (tokens(said_until_then), "cancelled")


@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_that_is_cancelled_from_elsewhere_says_so(tram: Stack, stream: bool):
    body = {"messages": said("!tokens=1000 rate=20"), "stream": stream}
    before = tram.engine.state()["tokens"]
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(tram.http.post, "/v1/chat/completions", json=body)
        tram.engine.wait(min_tokens=before + 5)
        (job,) = tram.listed("/v1/jobs", state="in_progress")
        tram.http.delete(f"/v1/jobs/{job['id']}")
        answer = asking.result(30)
    told = answer.text.split("\n\n")[-2].removeprefix("data: ") if stream else answer.text
    error = json.loads(told)["error"]
    assert (answer.status_code, error["type"], error["code"]) == (200 if stream else 409, "conflict_error", "cancelled")


def test_of_many_equal_requests_under_one_key_one_is_made(tram: Stack):
    body, headers = {"messages": said("!tokens=3")}, {"Idempotency-Key": uuid4().hex}
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(tram.http.post, "/v1/jobs", json=body, headers=headers) for _ in range(8)]
        answers_given = [one.result(30) for one in asked]
    assert {answer.status_code for answer in answers_given} == {202}
    assert len({answer.json()["id"] for answer in answers_given}) == 1
    assert Counter(answer.headers.get("idempotent-replayed") for answer in answers_given) == {None: 1, "true": 7}


def test_a_deadline_that_passes_in_the_queue(tram: Stack, full: None):
    seen = tram.engine.state()["seen"]
    job_id = tram.submit("!tokens=3", deadline=deadline_in(3))
    job = tram.ended(job_id)
    assert (job["state"], job["status"], job["error_code"]) == ("expired", "failed", "deadline_exceeded")
    assert job["usage"]["total_tokens"] == 0
    assert tram.engine.state()["seen"] == seen, "it never touched the engine"


def test_a_deadline_that_passes_in_mid_answer(tram: Stack):
    job_id = tram.submit("!tokens=1000 rate=20", deadline=deadline_in(6))
    job = tram.ended(job_id)
    assert (job["state"], job["error_code"]) == ("expired", "deadline_exceeded")
    assert tram.engine.aborted(job_id)["tokens"] == job["usage"]["completion_tokens"] > 0


def test_lists_come_in_pages_and_through_filters(tram: Stack):
    mark, began = uuid4().hex, int(time.time())
    made = [tram.submit("!tokens=1", metadata={"mark": mark, "number": str(number)}) for number in range(5)]
    failed = tram.submit("!status=400", model="tiny", metadata={"mark": mark})
    for job_id in (*made, failed):
        tram.ended(job_id)

    def ids(**wanted: str | int) -> list[str]:
        return [job["id"] for job in tram.listed("/v1/jobs", **{"metadata[mark]": mark, **wanted})]

    newest_first = [failed, *reversed(made)]
    assert ids() == ids(limit=2) == newest_first
    assert ids(order="asc") == ids(order="asc", limit=1) == newest_first[::-1]
    assert ids(state="failed") == [failed]
    assert ids(state="queued") == []
    assert ids(**{"metadata[number]": "3"}) == [made[3]]
    assert ids(model="tiny") == newest_first
    assert ids(model="huge") == []
    assert ids(door="job") == newest_first
    assert ids(door="batch") == ids(part_of="batch_0") == []
    assert ids(created_after=began) == newest_first
    assert ids(created_before=began) == ids(created_after=began + 3600) == []
    page = tram.http.get("/v1/jobs", params={"metadata[mark]": mark, "limit": 2}).json()
    assert (page["object"], page["has_more"]) == ("list", True)
    assert [page["first_id"], page["last_id"]] == newest_first[:2]


def test_what_is_too_large_for_a_row_comes_back_from_the_object_store(
    tram: Stack, column: str, hooks: Hooks, request: pytest.FixtureRequest
):
    job_id = tram.submit("!tokens=6000 stamp", webhook_url=hooks.url)
    result = tram.ended(job_id)["result"]
    assert result["usage"]["completion_tokens"] == 6000
    assert len(result["choices"][0]["message"]["content"]) > 6000 * 10
    event = told(hooks.sent()[0]).event
    assert "result" not in event["data"]
    assert event["data"]["result_url"] == f"{tram.url}/v1/jobs/{job_id}"
    assert text_of(tram.follow(job_id)) == result["choices"][0]["message"]["content"]
    kept = _objects(tram, column, request).rglob(f"*{job_id}*/*")
    assert [unpack(path.read_bytes())["completion"] for path in kept if path.is_file()] == [result]


@pytest.mark.parametrize("door", ["chat", "job"])
def test_what_is_not_to_be_stored_is_gone_once_it_was_told(tram: Stack, column: str, door: str, hooks: Hooks, request):
    secret = f"secret {uuid4().hex}"
    fields = {"store": False, "metadata": {"door": door}}
    asked = [{"role": "system", "content": secret}, *said("!tokens=3000 stamp")]
    if door == "chat":
        answer = tram.http.post("/v1/chat/completions", json={"messages": asked, **fields})
        job_id = answer.headers["x-tram-job"]
        result = answer.json()
    else:
        job_id = tram.http.post("/v1/jobs", json={"messages": asked, "webhook_url": hooks.url, **fields}).json()["id"]
        event = told(hooks.sent()[0]).event
        result = event["data"].get("result")
        until(lambda: tram.job(job_id)["result"] is None, 60)
    assert result is None or len(result["choices"][0]["message"]["content"]) > 3000 * 10
    job = tram.job(job_id)
    assert (job["state"], job["result"], job["conversation_id"]) == ("completed", None, None)
    assert job["usage"]["completion_tokens"] == 3000
    refused = tram.http.post("/v1/replays", json={"source_request_id": job_id})
    assert refused.status_code == 404
    if column == "embedded":
        assert secret not in _content(tram.folder / "data" / "tramontane.db")
    until(lambda: not [*_objects(tram, column, request).rglob(f"*{job_id}*/*")], 60)


def _objects(tram: Stack, column: str, request: pytest.FixtureRequest) -> Path:
    if column == "embedded":
        return tram.folder / "data" / "objects"
    parts: Production = request.getfixturevalue("parts")
    return parts.objects


def _content(path: Path) -> str:
    """All that all tables hold, unpacked."""
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        values = [value for name in tables for row in connection.execute(f"SELECT * FROM {name}") for value in row]
    connection.close()
    return "\n".join(str(_unpacked(value)) for value in values)


def _unpacked(value: object) -> object:
    try:
        return unpack(value) if isinstance(value, bytes) else value
    except ValueError:
        return value
