"""Does the scriptable engine behave as the real one was seen to?"""

import asyncio
import json
import subprocess
import sys
import urllib.request

import aiohttp
import openai
import pytest

from tests.fakes import engine as fake
from tests.fakes.engine import FakeEngine

WAIT_S = 20.0
SLOW_MACHINE_S = 2.0
CHAT = "/v1/chat/completions"


@pytest.fixture
async def engine():
    async with FakeEngine() as running:
        yield running


@pytest.fixture
async def http(engine):
    async with aiohttp.ClientSession(engine.url, timeout=aiohttp.ClientTimeout(WAIT_S)) as session:
        yield session


@pytest.fixture
async def sdk(engine):
    async with openai.AsyncOpenAI(base_url=engine.url + "/v1", api_key="none", max_retries=0, timeout=WAIT_S) as client:
        yield client


def ask(words, **more):
    return {"model": "tiny", "messages": [{"role": "user", "content": words}]} | more


async def events(response):
    """The documents of an SSE stream; how it ended is its last line's business."""
    return [json.loads(line[6:]) async for line in response.content if line.startswith(b"data: {")]


async def test_the_openai_sdk_takes_its_whole_answers(sdk):
    answer = await sdk.chat.completions.create(**ask("hello"), max_tokens=3, extra_body={"rid": "r1"})
    assert (answer.id, answer.choices[0].message.content, answer.choices[0].finish_reason) == (
        "r1",
        "token 1 token 2 token 3",
        "length",
    )
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (2, 3, 5)


async def test_the_openai_sdk_takes_its_streams(sdk):
    stream = await sdk.chat.completions.create(
        **ask("!tokens=5 rate=500"), stream=True, stream_options={"include_usage": True}, extra_body={"rid": "r2"}
    )
    pieces = [piece async for piece in stream]
    assert {piece.id for piece in pieces} == {"r2"}
    said = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    assert said == "token 1 token 2 token 3 token 4 token 5"
    assert pieces[-2].choices[0].finish_reason == "stop"
    assert pieces[-1].usage.completion_tokens == 5


async def test_several_choices_get_ids_of_their_own(engine, http):
    async with http.post(CHAT, json=ask("!tokens=2", n=2, stream=True, rid="lost")) as response:
        found = await events(response)
    assert len({event["id"] for event in found}) == 2
    assert "lost" not in {event["id"] for event in found}
    assert [event["choices"][0]["delta"].get("content") for event in found if event["choices"][0]["index"] == 1] == [
        "",
        "token 1",
        " token 2",
        None,
    ]


async def test_an_answer_is_continued(http):
    messages = [{"role": "user", "content": "!tokens=5"}, {"role": "assistant", "content": "token 1 token 2"}]
    async with http.post(CHAT, json={"messages": messages, "continue_final_message": True}) as response:
        answer = await response.json()
    assert answer["choices"][0]["message"]["content"] == " token 3 token 4 token 5"


async def test_a_prompt_that_began_another_is_cached_until_flushed(http):
    async def cached(*said):
        messages = [{"role": "user", "content": text} for text in said]
        async with http.post(CHAT, json={"messages": messages}) as response:
            return (await response.json())["usage"]["prompt_tokens_details"]["cached_tokens"]

    assert [await cached("a b c"), await cached("a b c", "d"), await cached("x", "d")] == [0, 4, 0]
    (await http.post("/flush_cache")).release()
    assert await cached("a b c", "d") == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_an_aborted_request_says_so(engine, http, stream):
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(http.post(CHAT, json=ask("!tokens=1000 rate=100", stream=stream, rid="r3")))
        await engine.until(lambda: engine.tokens >= 3)
        (await http.post("/abort_request", json={"rid": "r3"})).release()
    response = asked.result()
    ending = (await events(response))[-1] if stream else await response.json()
    assert ending["choices"][0]["finish_reason"] == "abort"
    assert [(one.rid, one.by) for one in engine.aborted] == [("r3", "request")]
    assert engine.aborted[0].tokens >= 3
    assert engine.running == 0


async def test_an_unknown_or_empty_rid_aborts_nobody(engine, http):
    hanging = asyncio.create_task(http.post(CHAT, json=ask("!hang", rid="r4")))
    await engine.until(lambda: engine.running == 1)
    for rid in ("other", ""):
        (await http.post("/abort_request", json={"rid": rid})).release()
    assert engine.running == 1
    (await http.post("/abort_request", json={"abort_all": True})).release()
    assert (await hanging).status == 200


async def test_who_hangs_up_is_noticed(engine, http):
    async with http.post(CHAT, json=ask("!tokens=1000 rate=100", stream=True, rid="r5")) as response:
        await response.content.readline()
        response.close()
    await engine.until(lambda: engine.running == 0)
    assert [(one.rid, one.by) for one in engine.aborted] == [("r5", "disconnect")]


async def test_it_drops_the_connection_when_told(engine, http):
    with pytest.raises(aiohttp.ClientPayloadError):
        async with http.post(CHAT, json=ask("!tokens=9 fail_after=4 rate=1000", stream=True)) as response:
            await events(response)
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await http.post(CHAT, json=ask("!fail_after=0"))
    assert (engine.tokens, engine.running, engine.finished) == (4, 0, 0)


@pytest.mark.parametrize(("stream", "status", "kind"), [(False, 503, "503"), (True, 200, "SERVICE_UNAVAILABLE")])
async def test_a_full_queue_says_so_in_its_two_ways(http, stream, status, kind):
    async with http.post(CHAT, json=ask("!error_event", stream=stream)) as response:
        assert response.status == status
        error = (await events(response))[0]["error"] if stream else await response.json()
    assert (error["message"], error["type"], error["code"]) == ("The request queue is full.", kind, 503)


@pytest.mark.parametrize(("words", "status"), [("!status=503", 503), ("!status=400", 400), ("!nonsense=1", 400)])
async def test_it_answers_with_a_status(http, words, status):
    async with http.post(CHAT, json=ask(words)) as response:
        assert (response.status, (await response.json())["code"]) == (status, status)


async def test_it_waits_before_the_first_token_and_keeps_its_rate(engine, http):
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with http.post(CHAT, json=ask("!tokens=11 rate=50 first=0.2", stream=True)) as response:
        await response.content.readline()
        first = loop.time()
        await events(response)
    assert 0.2 <= first - began < 0.2 + SLOW_MACHINE_S
    assert 0.19 < loop.time() - first < 0.2 + SLOW_MACHINE_S


async def test_the_model_or_the_engine_may_hold_the_script(http):
    async with http.post(CHAT, json=ask("hello") | {"model": "tiny!tokens=2"}) as response:
        assert (await response.json())["usage"]["completion_tokens"] == 2
    async with FakeEngine("tokens=3") as other, http.post(other.url + CHAT, json=ask("hello")) as response:
        assert (await response.json())["usage"]["completion_tokens"] == 3


async def test_the_dead_come_back_on_the_same_port(engine, http):
    port = engine.port
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await http.post(CHAT, json=ask("!die"))
    with pytest.raises(aiohttp.ClientConnectorError):
        await http.get("/health")
    async with engine:
        assert engine.port == port
        assert (await http.get("/health")).status == 200


async def test_until_gives_up(engine):
    with pytest.raises(TimeoutError):
        await engine.until(lambda: engine.running == 1, timeout_s=0.05)


@pytest.mark.parametrize("path", ["/health", "/ready", "/v1/models", "/nowhere"])
async def test_its_other_doors(http, path):
    async with http.get(path) as response:
        assert response.status == (404 if path == "/nowhere" else 200)


def test_as_a_process_it_tells_what_it_sees():
    command = [sys.executable, fake.__file__, "--script", "tokens=2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        url = json.loads(process.stdout.readline())["url"]
        body = json.dumps(ask("hello")).encode()
        get = lambda path, data=None: json.load(urllib.request.urlopen(url + path, data, timeout=WAIT_S))  # noqa: E731
        assert get(CHAT, body)["usage"]["completion_tokens"] == 2
        assert get("/_wait?min_finished=1&running=0")["seen"] == 1
        assert get("/_requests")[0]["messages"][0]["content"] == "hello"
        with pytest.raises(urllib.error.HTTPError, match="408"):
            get("/_wait?running=1&timeout_s=0.05")
        with pytest.raises(OSError):
            get(CHAT, json.dumps(ask("!die")).encode())
        assert process.wait(WAIT_S) == 1


async def test_answers_that_begin_together_have_names_of_their_own(engine, sdk):
    scripts = [f"!tokens=3 together=3 name={name}" for name in ("a", "b", "c")]
    first = [asyncio.create_task(sdk.chat.completions.create(**ask(words))) for words in scripts[:2]]
    await engine.until(lambda: engine.running == 2)
    assert engine.tokens == 0
    answers = await asyncio.gather(*first, sdk.chat.completions.create(**ask(scripts[2])))
    said = [answer.choices[0].message.content for answer in answers]
    assert said == ["a 1 a 2 a 3", "b 1 b 2 b 3", "c 1 c 2 c 3"]


async def test_it_completes_texts_as_the_sdk_takes_them(sdk):
    fields = {"model": "tiny", "prompt": "!tokens=3"}
    stream = await sdk.completions.create(**fields, stream=True, stream_options={"include_usage": True})
    *said, last = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in said) == "token 1 token 2 token 3"
    assert [chunk.choices[0].finish_reason for chunk in said] == [None, None, None, "stop"]
    assert (last.object, last.choices, last.usage.completion_tokens) == ("text_completion", [], 3)
