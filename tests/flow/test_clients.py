"""Do clients that other people wrote take us for what they know?  openai-python and aigateway-py, unmodified, on the real engine."""

import asyncio
import json
from collections.abc import Iterator
from uuid import uuid4

import aigateway
import httpx2
import openai
import pytest

from tests.flow.stack import Stack, said, until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
MODEL = "tram-demo"
FRANCE = "What is the capital of France?"
PARIS = "The capital of France is Paris."
WEATHER = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get the current weather",
            "parameters": {
                "type": "object",
                "properties": {"location": {"type": "string"}},
                "required": ["location"],
            },
        },
    }
]
CAPITAL = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "country": {"type": "string"}},
    "required": ["city", "country"],
}


@pytest.fixture
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key=stack.key, max_retries=0) as made:
        yield made


@pytest.fixture
def gateway(stack: Stack) -> Iterator[aigateway.AIgateway]:
    with aigateway.AIgateway(api_key=stack.key, base_url=stack.url) as made:
        yield made


@pytest.fixture
def other(stack: Stack, other_key: str) -> Iterator[httpx2.Client]:
    """Another account's."""
    with stack.client(other_key) as made:
        yield made


def ask(client: openai.OpenAI, text: str = FRANCE, **fields):
    return client.chat.completions.create(model=MODEL, messages=said(text), **fields)


def whole(client: openai.OpenAI, text: str, **fields):
    return ask(client, text, **fields).choices[0]


def streamed(client: openai.OpenAI, text: str, **fields):
    """Put together by the SDK's own helper."""
    with client.chat.completions.stream(model=MODEL, messages=said(text), **fields) as stream:
        return stream.get_final_completion().choices[0]


def test_a_chat(client):
    answer = ask(client)
    assert (answer.object, answer.model, answer.id[:9]) == ("chat.completion", MODEL, "chatcmpl-")
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (PARIS, "stop")
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert 0 < usage.completion_tokens < usage.prompt_tokens + 20


def test_a_stream(client):
    chunks = list(ask(client, stream=True))
    assert {(chunk.object, chunk.model, chunk.id, chunk.created) for chunk in chunks} == {
        ("chat.completion.chunk", MODEL, chunks[0].id, chunks[0].created)
    }
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == PARIS
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert len(chunks) > 4, "token by token"
    assert streamed(client, FRANCE).message.content == PARIS


def test_a_streams_usage_is_that_of_the_whole_answer(client):
    *chunks, last = ask(client, stream=True, stream_options={"include_usage": True})
    assert {chunk.usage for chunk in chunks} == {None}
    assert last.choices == []
    whole = ask(client).usage
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (whole.prompt_tokens, whole.completion_tokens)


async def test_the_async_client_at_once(stack):
    async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key=stack.key, max_retries=0) as client:
        create = client.chat.completions.create
        answers = await asyncio.gather(*(create(model=MODEL, messages=said(FRANCE)) for _ in range(8)))
        stream = await create(model=MODEL, messages=said(FRANCE), stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert {answer.choices[0].message.content for answer in answers} == {text} == {PARIS}
    assert len({answer.id for answer in answers}) == 8


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("text", "cities"),
    [
        ("What is the weather in London?", ["London"]),
        ("What is the weather in Paris and in London?", ["Paris", "London"]),
    ],
)
def test_tools(client, stream, text, cities):
    """Both calls of a parallel call, which the engine's own stream loses; and the sentence after their results."""
    choice = (streamed if stream else whole)(client, text, tools=WEATHER)
    calls = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls"
    assert not choice.message.content
    assert [(call.function.name, json.loads(call.function.arguments)) for call in calls] == [
        ("get_weather", {"location": city}) for city in cities
    ]
    assert len({call.id for call in calls}) == len(cities)
    results = {
        "London": {"temperature": 14, "conditions": "cloudy"},
        "Paris": {"temperature": 18, "conditions": "rainy"},
    }
    told = [
        {"role": "tool", "tool_call_id": call.id, "content": json.dumps(results[city])}
        for call, city in zip(calls, cities, strict=True)
    ]
    messages = [*said(text), choice.message, *told]
    answer = client.chat.completions.create(model=MODEL, messages=messages, tools=WEATHER)
    assert "14 degrees and cloudy" in answer.choices[0].message.content


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_tool_can_be_asked_for(client, choice):
    answer = ask(client, "What is the weather in London?", tools=WEATHER, tool_choice=choice)
    (call,) = answer.choices[0].message.tool_calls
    assert json.loads(call.function.arguments) == {"location": "London"}


def test_an_answer_in_a_schema(client):
    wanted = {"type": "json_schema", "json_schema": {"name": "capital", "schema": CAPITAL, "strict": True}}
    answer = ask(client, "Give me the capital of Norway as JSON with city and country.", response_format=wanted)
    assert json.loads(answer.choices[0].message.content) == {"city": "Oslo", "country": "Norway"}


def test_an_answer_in_json(client):
    answer = ask(
        client,
        "Give me the capital of Italy as JSON with city and country.",
        response_format={"type": "json_object"},
    )
    assert json.loads(answer.choices[0].message.content) == {"city": "Rome", "country": "Italy"}


def test_logprobs(client):
    answer = ask(client, logprobs=True, top_logprobs=2)
    tokens = answer.choices[0].logprobs.content
    assert "".join(token.token for token in tokens).removesuffix("</s>") == PARIS
    assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in tokens)


def test_several_choices(client):
    answer = ask(client, n=2)
    assert [(choice.index, choice.message.content) for choice in answer.choices] == [(0, PARIS), (1, PARIS)]
    texts = {0: "", 1: ""}
    for chunk in ask(client, n=2, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == {0: PARIS, 1: PARIS}


def test_stop_limit_and_seed(client):
    assert ask(client, stop=" is").choices[0].message.content == "The capital of France"
    limited = ask(client, max_tokens=3)
    assert (limited.choices[0].finish_reason, limited.usage.completion_tokens) == ("length", 3)
    assert ask(client, max_completion_tokens=3).choices[0].message == limited.choices[0].message
    assert ask(client, temperature=5, seed=4711, max_tokens=30).choices[0].message.content != PARIS, "five is hot"


@pytest.mark.parametrize(
    ("fields", "kind", "status", "param", "code"),
    [
        ({"model": "gpt-9"}, openai.NotFoundError, 404, "model", "model_not_found"),
        ({"messages": []}, openai.BadRequestError, 400, "messages", "invalid_request"),
        ({"temperature": 9}, openai.BadRequestError, 400, "temperature", "invalid_request"),
        ({"extra_body": {"logit": 1}}, openai.BadRequestError, 400, "logit", "unsupported_parameter"),
        ({"messages": said("word " * 20_000)}, openai.BadRequestError, 400, "messages", "context_length_exceeded"),
        ({"max_tokens": 100_000}, openai.BadRequestError, 400, "max_tokens", "invalid_request"),
        ({"messages": said("a" * (5 << 20))}, openai.APIStatusError, 413, "body", "request_too_large"),
    ],
)
def test_errors_have_the_classes_the_sdk_knows(client, fields, kind, status, param, code):
    with pytest.raises(kind) as caught:
        client.chat.completions.create(**{"model": MODEL, "messages": said(FRANCE), **fields})
    assert (caught.value.status_code, caught.value.param, caught.value.code) == (status, param, code)
    assert caught.value.type == ("not_found" if status == 404 else "invalid_request_error")
    assert caught.value.request_id.startswith("req_")


def test_a_wrong_key(stack):
    with (
        openai.OpenAI(base_url=f"{stack.url}/v1", api_key="sk-nobody", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        ask(client)
    assert (caught.value.code, caught.value.type) == ("invalid_api_key", "authentication_error")


@pytest.mark.parametrize(
    ("schema", "param"),
    [
        ({"enum": []}, "response_format"),
        ({"type": "array", "items": False, "minItems": 1}, "response_format"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_only_the_engine_can_refuse(client, schema, param, stream):
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, response_format=wanted, stream=stream)
    assert caught.value.param == param


def test_a_request_made_twice_is_made_once(client):
    key = {"Idempotency-Key": uuid4().hex}
    create = client.chat.completions.with_raw_response.create
    first, again = (create(model=MODEL, messages=said(FRANCE), extra_headers=key) for _ in range(2))
    assert first.parse() == again.parse()
    assert (first.headers.get("idempotent-replayed"), again.headers["idempotent-replayed"]) == (None, "true")
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        ask(client, "Hello!", extra_headers=key)
    assert (caught.value.code, caught.value.param) == ("idempotency_key_reused", "Idempotency-Key")


def test_stored_completions(client):
    mark = uuid4().hex
    made = ask(client, store=True, metadata={"mark": mark})
    stored = client.chat.completions
    (listed,) = stored.list(metadata={"mark": mark})
    assert listed.id == stored.retrieve(made.id).id == made.id
    assert stored.retrieve(made.id).choices == made.choices
    assert [message.content for message in stored.messages.list(made.id)] == [FRANCE]
    assert stored.update(made.id, metadata={"mark": "other"}).metadata == {"mark": "other"}
    assert list(stored.list(metadata={"mark": mark})) == []
    assert stored.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        stored.retrieve(made.id)


def test_an_answer_in_the_background(client):
    made = ask(client, extra_body={"background": True})
    assert made.to_dict()["status"] in {"queued", "in_progress"}
    until(lambda: client.chat.completions.retrieve(made.id).to_dict()["status"] == "completed", 60)
    assert client.chat.completions.retrieve(made.id).choices[0].message.content == PARIS


def test_what_comes_with_an_answer(client):
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=said(FRANCE), extra_headers={"x-request-id": "mine-4711"}
    )
    assert raw.headers["x-request-id"] == "mine-4711"
    assert raw.parse().id == raw.headers["x-tram-job"].replace("job_", "chatcmpl-")


def test_models(client, gateway):
    listed = {model.id: model for model in client.models.list()}
    assert listed[MODEL].to_dict()["toy"] is True
    assert listed[MODEL].to_dict()["served"] is True
    assert client.models.retrieve(MODEL) == listed[MODEL]
    assert {model["id"] for model in gateway.models.list()} == set(listed)
    assert gateway.models.get(MODEL)["context_length"] == 8192
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-9")


@pytest.mark.parametrize("text", [FRANCE, "Tell me a story.", "Count to twenty."])
def test_greedy_text_is_the_engines_own(client, engine_url, text):
    with openai.OpenAI(base_url=f"{engine_url}/v1", api_key="none") as direct:
        wanted = ask(direct, text, temperature=0).choices[0]
    cached = []
    for _ in range(2):
        answer = ask(client, text, temperature=0, user=uuid4().hex)
        said_here = answer.choices[0]
        assert (said_here.message.content, said_here.finish_reason) == (wanted.message.content, wanted.finish_reason)
        cached.append(answer.usage.prompt_tokens_details.cached_tokens)
    assert cached[1] == answer.usage.prompt_tokens - 1, "the second time all but the last token lay in the cache"


def test_cached_tokens_rise_over_a_conversation(client):
    messages, cached = [{"role": "system", "content": uuid4().hex}, *said(FRANCE)], []
    for following in ("What is the capital of Italy?", "What is the capital of Norway?", ""):
        answer = client.chat.completions.create(model=MODEL, messages=messages)
        cached.append(answer.usage.prompt_tokens_details.cached_tokens)
        messages += [answer.choices[0].message.model_dump(include={"role", "content"}), *said(following)]
    assert cached[0] < cached[1] < cached[2]


def test_aigateway_waits_for_a_job(stack, gateway):
    job = gateway.jobs.wait(stack.submit(FRANCE), timeout_seconds=60, poll_interval_seconds=0.1)
    assert (job.status, job.modality, job.model) == ("completed", "text", MODEL)
    assert job.result["choices"][0]["message"]["content"] == PARIS
    assert (job.error, gateway.jobs.get(job.id)) == (None, job)


def test_aigateway_cancels_a_job(stack, gateway):
    endless = {"type": "array", "items": {"type": "integer"}, "minItems": 300}
    wanted = {"type": "json_schema", "json_schema": {"name": "numbers", "schema": endless}}
    job_id = stack.submit("Count to twenty.", response_format=wanted)
    until(lambda: gateway.jobs.get(job_id).status == "in_progress", 60)
    assert gateway.jobs.cancel(job_id).raw["cancel_requested"]
    job = gateway.jobs.wait(job_id, timeout_seconds=60, poll_interval_seconds=0.1)
    assert (job.status, job.raw["state"], job.error) == ("failed", "cancelled", "the job was cancelled")
    with pytest.raises(aigateway.AIgatewayError) as caught:
        gateway.jobs.get("job_" + "0" * 26)
    assert (caught.value.status_code, caught.value.type) == (404, "not_found")


def test_aigateway_replays_a_request(client, gateway):
    source = ask(client).id
    replay = gateway.replays.run(source_request_id=source, target_model=MODEL)
    until(lambda: gateway.replays.get(replay["id"])["status"] == "completed", 60)
    replay = gateway.replays.get(replay["id"])
    assert (replay["verdict"], replay["source_model"], replay["target_model"]) == ("identical", MODEL, MODEL)
    assert replay["source_output"] == replay["target_output"] == PARIS
    assert replay["latency_target_ms"] >= 0
    assert replay in gateway.replays.list()


def test_aigateway_rotates_the_secret(gateway):
    old = gateway.webhook_secret.get()["secret"]
    new = gateway.webhook_secret.rotate()["secret"]
    assert gateway.webhook_secret.get()["secret"] == new != old


def test_what_is_another_accounts_is_not_there(stack, client, other, hooks):
    job_id = stack.submit(FRANCE, webhook_url=hooks.url)
    conversation_id = stack.ended(job_id)["conversation_id"]
    replay = stack.http.post("/v1/replays", json={"source_request_id": job_id}).json()
    (delivery,) = stack.listed("/v1/webhook_deliveries", job_id=job_id)
    for path in (
        f"/v1/jobs/{job_id}",
        f"/v1/jobs/{job_id}/events",
        f"/v1/conversations/{conversation_id}",
        f"/v1/replays/{replay['id']}",
        f"/v1/webhook_deliveries/{delivery['id']}",
    ):
        assert stack.http.get(path).status_code == 200, path
        assert (other.get(path).status_code, other.get(path).json()["error"]["type"]) == (404, "not_found"), path
    assert other.delete(f"/v1/jobs/{job_id}").status_code == 404
    for body in ({"source_request_id": job_id}, {"source_conversation_id": conversation_id}):
        assert other.post("/v1/replays", json=body).status_code == 404
    named = {"messages": said(FRANCE), "conversation_id": conversation_id}
    assert other.post("/v1/chat/completions", json=named).json()["error"]["param"] == "conversation_id"
    for path in ("/v1/jobs", "/v1/conversations", "/v1/replays", "/v1/webhook_deliveries"):
        theirs = {row["id"] for row in other.get(path).json()["data"]}
        assert theirs.isdisjoint(row["id"] for row in stack.listed(path)), path
    assert other.get("/v1/webhook-secret").json() != stack.http.get("/v1/webhook-secret").json()


def test_accounts_do_not_share_the_engines_cache(stack, other):
    """The same prompt, long enough to be cached: known to the one, new to the other."""
    text = f"{uuid4().hex} {FRANCE} " * 8

    def cached(http: httpx2.Client) -> int:
        answer = http.post("/v1/chat/completions", json={"messages": said(text), "max_tokens": 1})
        return answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]

    assert cached(stack.http) < 10, "but for what begins every prompt"
    assert cached(other) < 10
    assert cached(stack.http) > 50
    assert cached(other) > 50


def test_a_revoked_key_is_refused(stack):
    key = stack.command("keys", "create", "short-lived", "--account", "gone")
    with stack.client(key) as http:
        assert http.get("/v1/models").status_code == 200
        row = next(line for line in stack.command("keys", "list").splitlines() if "short-lived" in line)
        key_id = next(word for word in row.split() if word.startswith("key_"))
        stack.command("keys", "revoke", key_id)
        until(lambda: http.get("/v1/models").status_code == 401, 30)


def test_the_command_line_replays(stack):
    job_id = stack.submit(FRANCE)
    stack.ended(job_id)
    assert "identical" in stack.command("replay", job_id)
