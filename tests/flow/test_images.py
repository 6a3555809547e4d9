"""Does an image reach the engine as it was sent, and is it kept once?  The card that takes images, on the scriptable engine."""

import base64
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fakes.receiver import HANG, Reply
from tests.flow.engine import Engine, tokens
from tests.flow.stack import Stack, until

MODEL = "mistral-small-3.1-24b-instruct-2503"
BYTES = 600_000
PICTURE = b"\x89PNG\r\n\x1a\n" + random.Random(4).randbytes(BYTES)
URL = "data:image/png;base64," + base64.b64encode(PICTURE).decode()
QUESTION = {
    "role": "user",
    "content": [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": URL, "detail": "low"}},
        {"type": "text", "text": "And where?"},
    ],
}


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Engine() as engine, Stack(tmp_path_factory.mktemp("seeing"), engine, TRAM_MODEL=MODEL) as running:
        yield running


def test_an_image_reaches_the_engine_as_it_was_sent_and_is_kept_once(seeing):
    large = "SELECT hash, length(content) FROM messages WHERE length(content) > 1000"
    before = set(seeing.rows(large))
    first = seeing.http.post("/v1/jobs", json={"messages": [QUESTION], "max_tokens": 3}).json()["id"]
    answer = seeing.ended(first)["result"]["choices"][0]["message"]
    messages = [QUESTION, {"role": "assistant", "content": answer["content"]}, {"role": "user", "content": "Sure?"}]
    second = seeing.ended(seeing.http.post("/v1/jobs", json={"messages": messages}).json()["id"])
    assert [request["messages"] for request in seeing.engine.requests()[-2:]] == [[QUESTION], messages]
    assert second["conversation_id"] == seeing.job(first)["conversation_id"]
    [(_, stored_bytes)] = set(seeing.rows(large)) - before
    assert stored_bytes < BYTES * 1.1, "base64 packs to little more than the image itself"
    assert seeing.rows("SELECT count(*) FROM jobs WHERE messages IS NOT NULL") == [(0,)]
    assert seeing.listed("/v1/conversations")[0]["title"] == "(image)"


def look(url):
    content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]
    return [{"role": "user", "content": content}]


def test_an_image_is_fetched_once_at_the_door_and_replayed_from_there(seeing, hooks):
    hooks.script(Reply(200, PICTURE), Reply(200, PICTURE), Reply(404))
    job = seeing.ended(seeing.http.post("/v1/jobs", json={"messages": look(hooks.url)}).json()["id"])
    assert seeing.engine.requests()[-1]["messages"] == look(URL)
    said = {"role": "assistant", "content": job["result"]["choices"][0]["message"]["content"]}
    again = [*look(hooks.url), said, {"role": "user", "content": "Sure?"}]
    second = seeing.http.post("/v1/chat/completions", json={"messages": again, "stream": True})
    assert second.text.endswith("data: [DONE]\n\n")
    assert seeing.engine.requests()[-1]["messages"][0] == look(URL)[0]
    assert {row["conversation_id"] for row in seeing.listed("/v1/jobs")[:2]} == {job["conversation_id"]}
    replay = seeing.http.post("/v1/replays", json={"source_request_id": job["id"]}).json()["id"]
    until(lambda: seeing.http.get(f"/v1/replays/{replay}").json()["verdict"] == "identical", 30)
    assert seeing.engine.requests()[-1]["messages"] == look(URL)
    assert [sent.method for sent in hooks.seen] == ["GET", "GET"]
    gone = seeing.http.post("/v1/jobs", json={"messages": look(hooks.url)})
    assert (gone.status_code, gone.json()["error"]["code"]) == (400, "invalid_image_url")


def test_a_model_that_only_reads_asks_for_nothing(tram, hooks):
    answer = tram.http.post("/v1/chat/completions", json={"messages": look(hooks.url)})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "unsupported_content_type")
    assert error["param"] == "messages[0].content[1]"
    assert hooks.seen == []


def test_other_requests_do_not_wait_for_a_slow_picture(seeing, hooks):
    hooks.script(HANG)
    with ThreadPoolExecutor(1) as other:
        slow = other.submit(seeing.http.post, "/v1/jobs", json={"messages": look(hooks.url)})
        hooks.sent(1)
        assert seeing.chat("!tokens=3")["choices"][0]["message"]["content"] == tokens(3)
        assert not slow.done()
        hooks.down()
        answer = slow.result(30)
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, "the image cannot be fetched from here")
    hooks.up()


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://169.254.169.254/latest/meta-data", "invalid_image_url"),
        ("https://10.0.0.1/a.png", "invalid_image_url"),
        ("file:///etc/passwd", "invalid_request"),
        ("data:image/svg+xml;base64,AAAA", "unsupported_content_type"),
        ("data:image/png;base64,AAAA", "unsupported_content_type"),
        ("data:image/png;base64,A", "invalid_request"),
    ],
)
def test_what_may_not_be_fetched_or_cannot_be_read_never_gets_there(seeing, url, code):
    seen = seeing.engine.state()["seen"]
    part = {"type": "image_url", "image_url": {"url": url}}
    answer = seeing.http.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": [part]}]})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, "messages[0].content[0].image_url.url", code)
    assert seeing.engine.state()["seen"] == seen


def test_a_body_has_its_bound(seeing):
    parts = [{"type": "image_url", "image_url": {"url": URL}}] * 6
    answer = seeing.http.post("/v1/jobs", json={"messages": [{"role": "user", "content": parts}]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")
