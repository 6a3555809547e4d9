"""Does the client ask an engine for no more than it can do, and read what it says?  Against the scriptable one, and SGLang itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import aiohttp
import pytest

from infra import keepalive
from infra.engine.client import EngineClient
from models.errors import EngineBusy, EngineError, EngineLost, InvalidRequest
from tests.fakes.engine import ROUTES, FakeEngine
from tests.infra.conftest import probed_within_s

ASKED = [{"role": "user", "content": "What is the capital of France?"}]
SALT = "salt"


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    async with FakeEngine() as running:
        yield running


@pytest.fixture
async def client(engine: FakeEngine) -> AsyncIterator[EngineClient]:
    made = EngineClient(engine.url, "tiny")
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that speaks OpenAI's language and none of SGLang's."""
    monkeypatch.delitem(ROUTES, ("GET", "/model_info"))
    monkeypatch.delitem(ROUTES, ("GET", "/ready"))


def scripted(words: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"!{words}"}]


async def said(client: EngineClient, messages: list[dict[str, str]], **parameters: object) -> list[dict]:
    return [chunk async for chunk in client.stream(parameters, messages, rid="job-1", cache_salt=SALT)]


async def test_sglang_is_asked_by_name_with_salt_and_counts_as_it_goes(engine: FakeEngine, client: EngineClient):
    chunks = await said(client, scripted("tokens=3"), temperature=0.5)
    body = engine.requests[-1]
    assert (body["rid"], body["cache_salt"], body["model"], body["temperature"]) == ("job-1", SALT, "tiny", 0.5)
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks if chunk.get("usage")]
    assert counts == [1, 2, 3, 3], "each piece tells what it makes in all, and so does the end"


async def test_a_plain_server_is_asked_for_nothing_it_does_not_know(
    plain: None, engine: FakeEngine, client: EngineClient
):
    assert await client.is_ready()
    chunks = await said(client, scripted("tokens=3"))
    body = engine.requests[-1]
    assert set(body) == {"messages", "model", "stream", "stream_options"}
    assert body["stream_options"] == {"include_usage": True}
    assert chunks[-1]["usage"]["completion_tokens"] == 3
    await client.abort("job-1")
    assert engine.aborted == type(engine.aborted)(), "there is nothing to ask it for"


async def test_letting_go_frees_a_plain_server_too(plain: None, engine: FakeEngine, client: EngineClient):
    async with aclosing(client.stream({}, scripted("hang first=0"), rid="job-1", cache_salt=SALT)) as stream:
        waiting = asyncio.create_task(anext(stream))
        await engine.until(lambda: engine.running == 1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    await engine.until(lambda: engine.running == 0)
    assert [each.by for each in engine.aborted] == ["disconnect"]


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("status=400", InvalidRequest),
        ("status=429", EngineBusy),
        ("status=500", EngineError),
        ("status=502", EngineBusy),
        ("status=503", EngineBusy),
        ("status=504", EngineBusy),
        ("error_event", EngineBusy),
        ("fail_after=2", EngineLost),
        ("die", EngineLost),
    ],
)
async def test_what_goes_wrong_has_a_name(client: EngineClient, script: str, error: type[Exception]):
    with pytest.raises(error) as caught:
        await said(client, scripted(script))
    assert type(caught.value) is error


@pytest.mark.parametrize("status", [502, 504])
async def test_a_gateway_whose_engine_is_away_has_lost_it(
    monkeypatch: pytest.MonkeyPatch, client: EngineClient, status: int
):
    await client.is_sglang()
    for path in ("/ready", "/v1/models"):
        monkeypatch.setitem(ROUTES, ("GET", path), lambda _, link, *__: link.reply(status))
    with pytest.raises(EngineLost):
        await said(client, scripted(f"status={status}"))


async def test_an_engine_whose_host_vanishes_is_missed(engine: FakeEngine, client: EngineClient):
    """While it says nothing: what is sent to it would be missed anyway."""
    async with aclosing(client.stream({}, scripted("hang"), rid="job-1", cache_salt=SALT)) as stream:
        waiting = asyncio.create_task(anext(stream))
        await engine.until(lambda: engine.running == 1)
        found_s = await asyncio.to_thread(probed_within_s, engine.port)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert found_s <= keepalive.IDLE_S


async def test_a_plain_server_that_says_nothing_for_long_is_lost(
    plain: None, monkeypatch: pytest.MonkeyPatch, client: EngineClient
):
    monkeypatch.setattr("infra.engine.client.SILENT_S", 0.3)
    with pytest.raises(EngineLost):
        await asyncio.wait_for(said(client, scripted("hang")), 20)


async def test_who_does_not_answer_has_not_said_what_it_is(engine: FakeEngine, client: EngineClient):
    engine.die()
    assert not await client.is_ready()
    with pytest.raises(EngineLost):
        await client.is_sglang()


async def test_neither_has_a_gateway_that_knows_no_engine_yet(client: EngineClient):
    with pytest.MonkeyPatch.context() as starting:
        for path in ("/model_info", "/ready", "/v1/models"):
            starting.setitem(ROUTES, ("GET", path), lambda _, link, *__: link.reply(404))
        with pytest.raises(EngineLost):
            await client.is_sglang()
    assert await client.is_sglang()


STRICT = {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"title": "F"}, "strict": True}}]}


@pytest.mark.parametrize("wish", ["auto", "required"])
async def test_sglang_without_a_parser_is_given_a_grammar_for_calls(
    engine: FakeEngine, client: EngineClient, wish: str
):
    await said(client, scripted("tokens=1"), **STRICT, tool_choice=wish)
    body = engine.requests[-1]
    assert (body["tools"], body["tool_choice"]) == (STRICT["tools"], "auto")
    form = body["response_format"]["format"]
    assert (form["triggers"], form["at_least_one"]) == (["[TOOL_CALLS]"], wish == "required")


@pytest.mark.parametrize("told", [{"tool_call_parser": "mistral"}, {}], ids=str)
async def test_who_reads_calls_itself_is_not_told_how(
    monkeypatch: pytest.MonkeyPatch, engine: FakeEngine, client: EngineClient, told: dict[str, str]
):
    """Or who may: it does not say."""
    monkeypatch.setitem(ROUTES, ("GET", "/model_info"), lambda _, link, *__: link.reply(200, told))
    await said(client, scripted("tokens=1"), **STRICT, tool_choice="required")
    body = engine.requests[-1]
    assert (body["tool_choice"], "response_format" in body, "rid" in body) == ("required", False, True)


async def test_an_engine_that_tells_no_ids_has_none(monkeypatch: pytest.MonkeyPatch, client: EngineClient):
    """An older SGLang: the answer begins anew, it does not fail."""
    assert await client.ids_of({}, ASKED, ["token 1"]) is not None
    monkeypatch.delitem(ROUTES, ("POST", "/v1/tokenize"))
    assert await client.ids_of({}, ASKED, ["token 1"]) is None


@pytest.mark.engine
async def test_the_ids_of_an_answer_read_as_it_was_said(engine_url: str):
    client = EngineClient(engine_url, "tram-demo")
    await client.open()
    try:
        pieces = ["The", " capital", " of", " France is", " Paris", "."]
        found = await client.ids_of({}, ASKED, pieces)
        assert found is not None
        assert len(found.prompt) == await _prompt_tokens(engine_url)
        assert len(found.answer) >= len(pieces)
    finally:
        await client.close()


async def _prompt_tokens(url: str) -> int:
    """As the engine counts them in a chat."""
    body = {"model": "tram-demo", "messages": ASKED, "max_tokens": 1}
    async with aiohttp.ClientSession() as http, http.post(f"{url}/v1/chat/completions", json=body) as answer:
        return (await answer.json())["usage"]["prompt_tokens"]


@pytest.mark.engine
async def test_an_answer_that_cannot_go_on_ends_alone(engine_url: str):
    """The door cannot tell every such grammar.  Beside others that are drawn at random it ended the whole engine."""
    client = EngineClient(engine_url, "tram-demo")
    await client.open()
    dead = {"type": "json_schema", "json_schema": {"name": "dead", "schema": {"allOf": [{"$ref": "#"}]}}}
    wishes = [{"temperature": 0, "response_format": dead}, {"temperature": 0.7, "max_tokens": 40}] * 4
    try:
        answers = await asyncio.gather(
            *(_end(client, number, wish) for number, wish in enumerate(wishes)), return_exceptions=True
        )
    finally:
        await client.close()
    assert all(isinstance(each, InvalidRequest) for each in answers[::2]), answers
    assert all(each == "stop" for each in answers[1::2]), answers


async def _end(client: EngineClient, number: int, wish: dict[str, object]) -> str:
    chunks = [chunk async for chunk in client.stream(wish, ASKED, rid=f"job-{number}", cache_salt=SALT)]
    return next(end for chunk in chunks for choice in chunk["choices"] if (end := choice.get("finish_reason")))


async def test_an_idle_connection_is_dropped_before_the_engine_may_drop_it():
    """SGLang and uvicorn drop it after 5 s, and what is just then on its way is lost: an attempt of a job."""
    dropped = asyncio.Event()

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        assert await reader.read() == b""
        writer.close()
        dropped.set()

    async with await asyncio.start_server(served, "127.0.0.1", 0) as server:
        client = EngineClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "tiny")
        await client.open()
        assert await client.is_ready()
        await asyncio.wait_for(dropped.wait(), 4.9)
        await client.close()
