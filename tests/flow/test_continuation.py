"""Is an answer that was interrupted the one it would have been?  On the real engine, behind a wire that breaks."""

from collections.abc import Iterator

import pytest

from tests.flow.cutter import Cutter
from tests.flow.sse import events, numbers, text_of
from tests.flow.stack import Stack, said

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
QUESTIONS = ("Tell me a story.", "Count to twenty.", "Café, naïve, 東京 and 🎉: what are they?")
CUTS = (2, 4, 5, 3)
"""Chunks after which the wire breaks, one attempt after the other; the fifth, which is the last, is left alone."""
RAW = "Once upon a time there"
"""As the toy goes on with it, long enough to be cut four times."""
LONG = {"max_tokens": 40, "temperature": 0}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]


@pytest.fixture(scope="module")
def wire(engine_url: str) -> Iterator[Cutter]:
    with Cutter(engine_url) as running:
        yield running


@pytest.fixture(scope="module")
def frail(wire: Cutter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    settings = {"TRAM_ENGINE_URL": wire.url, "TRAM_MODEL": "tram-demo"}
    with Stack(tmp_path_factory.mktemp("frail"), **settings) as running:
        yield running


@pytest.mark.parametrize("text", QUESTIONS)
@pytest.mark.parametrize("fields", [{}, {"logprobs": True}, {"tools": TOOLS}], ids=["plain", "logprobs", "tools"])
def test_an_answer_cut_short_goes_on_as_if_nothing_had_been(frail: Stack, wire: Cutter, text, fields):
    undisturbed = frail.chat(text, **LONG, **fields)
    body = {"messages": said(text), "stream": True, "stream_options": {"include_usage": True}, **LONG, **fields}
    wire.cuts = list(CUTS)
    with frail.http.stream("POST", "/v1/chat/completions", json=body) as response:
        seen = list(events(response))
    wanted = undisturbed["choices"][0]
    assert text_of(seen) == wanted["message"]["content"]
    assert numbers(seen[:-1]) == list(range(1, len(seen)))
    job = frail.job(response.headers["x-tram-job"])
    assert job["attempt"] == 1 + len(CUTS)
    kept = job["result"]["choices"][0]
    assert (kept["message"], kept["finish_reason"]) == (wanted["message"], wanted["finish_reason"])
    told = seen[-2].chunk["usage"]
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert told[name] == job["usage"][name] == undisturbed["usage"][name]
    if wanted["logprobs"]:
        tokens, undisturbed_tokens = (
            [each["token"] for each in choice["logprobs"]["content"] if each["token"] != "</s>"]
            for choice in (kept, wanted)
        )  # the engine tells of the end where it comes in one step with text
        assert tokens == undisturbed_tokens


def test_an_answer_that_continued_a_message_goes_on_too(frail: Stack, wire: Cutter):
    messages = [*said("Count to twenty."), {"role": "assistant", "content": "1 2 3 4"}]
    body = {"messages": messages, "continue_final_message": True, **LONG}
    undisturbed = frail.http.post("/v1/chat/completions", json=body).raise_for_status().json()
    wire.cuts = [3, 3]
    answer = frail.http.post("/v1/chat/completions", json=body).raise_for_status()
    assert frail.job(answer.headers["x-tram-job"])["attempt"] == 3
    assert answer.json()["choices"] == undisturbed["choices"]
    assert answer.json()["usage"]["total_tokens"] == undisturbed["usage"]["total_tokens"]


@pytest.mark.parametrize("fields", [{}, {"logprobs": 2}], ids=["plain", "logprobs"])
def test_a_raw_prompt_that_was_cut_short_goes_on_too(frail: Stack, wire: Cutter, fields):
    body = {"prompt": RAW, **LONG, **fields}
    undisturbed = frail.http.post("/v1/completions", json=body).raise_for_status().json()
    wire.cuts = list(CUTS)
    with frail.http.stream("POST", "/v1/completions", json=body | {"stream": True}) as response:
        *seen, _ = events(response)
    text = "".join(event.chunk["choices"][0]["text"] for event in seen)
    (wanted,) = undisturbed["choices"]
    assert text == wanted["text"]
    job = frail.job(response.headers["x-tram-job"])
    assert job["attempt"] == 1 + len(CUTS)
    for name in ("prompt_tokens", "completion_tokens"):
        assert job["usage"][name] == undisturbed["usage"][name]
    if fields:
        said = [token for event in seen for token in (event.chunk["choices"][0]["logprobs"] or {}).get("tokens", ())]
        assert said == wanted["logprobs"]["tokens"]


@pytest.mark.parametrize(
    ("fields", "cut"),
    [
        ({"response_format": {"type": "json_object"}}, 4),
        ({"n": 2}, 4),
        ({"tools": TOOLS, "tool_choice": "required"}, 18),
    ],
    ids=["a grammar", "two choices", "a call"],
)
def test_what_cannot_go_on_begins_anew(frail: Stack, wire: Cutter, fields, cut):
    """A call has begun with its arguments; before these nothing of it is told, and nobody needs to be told anew."""
    undisturbed = frail.chat("Tell me a story.", **LONG, **fields)
    wire.cuts = [cut]
    job_id = frail.submit("Tell me a story.", **LONG, **fields)
    seen = frail.follow(job_id)
    assert [event.event for event in seen if event.event] == ["restart", "end"]
    job = frail.job(job_id)
    assert (job["attempt"], job["usage"]["completion_tokens"]) == (2, undisturbed["usage"]["completion_tokens"])
    said_once = [choice["message"].get("content") for choice in job["result"]["choices"]]
    assert said_once == [choice["message"].get("content") for choice in undisturbed["choices"]]


def test_an_echo_begins_anew(frail: Stack, wire: Cutter):
    fields = LONG | {"raw": True, "echo": True}
    undisturbed = frail.chat(RAW, **fields)["choices"][0]["message"]["content"]
    wire.cuts = [4]
    job_id = frail.submit(RAW, **fields)
    seen = frail.follow(job_id)
    assert [event.event for event in seen if event.event] == ["restart", "end"]
    assert text_of(seen) == undisturbed
    assert undisturbed.startswith(RAW)
    assert frail.job(job_id)["attempt"] == 2


def test_an_answer_that_had_only_begun_to_speak_begins_without_a_word(frail: Stack, wire: Cutter):
    wire.cuts = [1, 0]  # SGLang's first chunk says who speaks
    job_id = frail.submit("Tell me a story.", **LONG, response_format={"type": "json_object"})
    seen = frail.follow(job_id)
    assert [event.event for event in seen if event.event] == ["end"]
    assert sum('"role"' in event.data for event in seen) == 1
    assert frail.job(job_id)["attempt"] == 3
