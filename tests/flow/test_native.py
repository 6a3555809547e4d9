"""Does Cloudflare's own way to ask work as its documents show it?  On the real engine; for what a queue does, on the scripted one."""

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from tests.flow.stack import Stack, said, until

pytestmark = pytest.mark.timeout(300)
engine = pytest.mark.engine
MODEL = "@cf/mistralai/mistral-small-3.1-24b-instruct"
THERE = f"/client/v4/accounts/0123456789abcdef/ai/run/{MODEL}"
FRANCE = "What is the capital of France?"
PARIS = "The capital of France is Paris."
NORWAY = "Give me the capital of Norway as JSON with city and country."
OSLO = {"city": "Oslo", "country": "Norway"}
CAPITAL = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "country": {"type": "string"}},
    "required": ["city", "country"],
}
PLACE = {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]}
WEATHER = {"name": "get_weather", "description": "Get the current weather", "parameters": PLACE}
SAMPLE = r"""curl https://api.cloudflare.com/client/v4/accounts/$CLOUDFLARE_ACCOUNT_ID/ai/run/@cf/mistralai/mistral-small-3.1-24b-instruct \
-H "Authorization: Bearer $CLOUDFLARE_AUTH_TOKEN" \
-H "Content-Type: application/json" \
-d '{
"messages": [
{ "role": "system", "content": "You are a helpful assistant." },
{ "role": "user", "content": "Explain quantum entanglement in one sentence." }
]
}'"""
RUN_S = 60


@pytest.fixture(scope="module")
def cloud(engine_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """What serves under the name that Cloudflare has for it."""
    settings = {"TRAM_ENGINE_URL": engine_url, "TRAM_MODEL": "mistral-small-3.1-24b-instruct-2503"}
    with Stack(tmp_path_factory.mktemp("cloud"), **settings) as running:
        yield running


@pytest.fixture
def run(cloud: Stack) -> Callable[..., Any]:
    """The result of what is asked at temperature 0."""

    def asked(**body: object) -> Any:
        told = cloud.http.post(f"/ai/run/{MODEL}", json={"temperature": 0} | body).raise_for_status().json()
        assert set(told) == {"result", "success", "errors", "messages"}
        assert (told["success"], told["errors"], told["messages"]) == (True, [], [])
        return told["result"]

    return asked


def data_of(answer: httpx2.Response) -> list[str]:
    """Nothing but data lines and empty ones, as there."""
    lines = [line for line in answer.text.split("\n") if line]
    assert all(line.startswith("data: ") for line in lines), answer.text[:500]
    return [line.removeprefix("data: ") for line in lines]


@engine
def test_the_sample_works_as_printed_but_for_host_and_key(cloud):
    command = SAMPLE.replace("https://api.cloudflare.com", cloud.url)
    variables = {"CLOUDFLARE_ACCOUNT_ID": "0123456789abcdef", "CLOUDFLARE_AUTH_TOKEN": cloud.key, "no_proxy": "*"}
    shell = ("bash", "-c", command)
    done = subprocess.run(shell, check=True, capture_output=True, env=variables, timeout=RUN_S, cwd=cloud.folder)
    told = json.loads(done.stdout)
    assert told["success"] is True
    assert told["result"]["response"]
    assert told["result"]["usage"]["completion_tokens"] > 0


@engine
@pytest.mark.parametrize("asked", [{"messages": said(FRANCE)}, {"prompt": FRANCE}], ids=lambda asked: next(iter(asked)))
def test_a_question(run, asked):
    result = run(**asked)
    assert (result["response"], result["tool_calls"]) == (PARIS, [])
    usage = result["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0


@engine
def test_a_raw_prompt_has_no_template(run):
    assert run(prompt="The capital of France", raw=True)["response"] == " is Paris."
    assert run(prompt="1, 2, 3,", raw=True, logit_bias={"2": -100})["usage"]["completion_tokens"] == 256


@engine
@pytest.mark.parametrize(
    "shape",
    [
        {"guided_json": CAPITAL},
        {"response_format": {"type": "json_schema", "json_schema": CAPITAL}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "capital", "schema": CAPITAL}}},
        {"response_format": {"type": "json_object"}},
    ],
    ids=str,
)
def test_a_document_is_handed_out_as_one(run, shape):
    assert run(messages=said(NORWAY), **shape)["response"] == OSLO


@engine
def test_a_document_that_was_cut_off_stays_a_text(run):
    assert run(messages=said(NORWAY), guided_json=CAPITAL, max_tokens=3)["response"].startswith("{")


TOOLS = [
    {"functions": [WEATHER]},
    {"tools": [WEATHER]},
    {"tools": [{"type": "function", "function": WEATHER}]},
]


@engine
@pytest.mark.parametrize("tools", TOOLS, ids=["functions", "tools", "OpenAI's"])
def test_tools_are_called_and_answered(run, tools):
    asked = said("What is the weather in London?")
    result = run(messages=asked, **tools)
    (call,) = result["tool_calls"]
    assert (call["name"], call["arguments"]) == ("get_weather", {"location": "London"})
    assert result["response"] is None
    function = {"name": call["name"], "arguments": json.dumps(call["arguments"])}
    turns = [
        {"role": "assistant", "tool_calls": [{"id": call["id"], "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": call["id"], "content": '{"temperature": 14, "conditions": "cloudy"}'},
    ]
    assert "14 degrees and cloudy" in run(messages=[*asked, *turns], **tools)["response"]


@engine
def test_a_stream(cloud, run):
    body = {"messages": said(FRANCE), "stream": True, "temperature": 0}
    answer = cloud.http.post(THERE, json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *words, last, done = data_of(answer)
    assert done == "[DONE]"
    pieces = [json.loads(word) for word in words]
    assert {*map(tuple, pieces)} == {("response",)}
    assert "".join(piece["response"] for piece in pieces) == PARIS
    assert len(pieces) > 4, "token by token"
    whole = run(messages=said(FRANCE))["usage"]
    told = json.loads(last)
    assert (told["response"], told["usage"]["total_tokens"]) == ("", whole["total_tokens"])


@engine
def test_a_stream_tells_calls_whole(cloud):
    body = {"messages": said("What is the weather in Paris and in London?"), "tools": [WEATHER], "stream": True}
    *_, calls, _, _ = data_of(cloud.http.post(THERE, json=body | {"temperature": 0}))
    found = [(call["name"], call["arguments"]["location"]) for call in json.loads(calls)["tool_calls"]]
    assert found == [("get_weather", "Paris"), ("get_weather", "London")]


def polled(http: httpx2.Client, address: str, name: str) -> dict:
    """The batch once it has ended."""

    def ask() -> httpx2.Response:
        return http.post(address, params={"queueRequest": "true"}, json={"request_id": name}).raise_for_status()

    until(lambda: ask().status_code == 200, RUN_S)
    return ask().json()["result"]


@engine
def test_a_batch(cloud, run):
    requests = [
        {"messages": said(FRANCE), "external_reference": "story1", "temperature": 0},
        {"prompt": NORWAY, "guided_json": CAPITAL, "temperature": 0},
        {"prompt": "The capital of France", "raw": True, "temperature": 0, "metadata": {"order": "4711"}},
        {"prompt": "hello", "logit_bias": {"999999": 1}, "external_reference": "story4"},
    ]
    queued = cloud.http.post(f"{THERE}?queueRequest=true", json={"requests": requests})
    assert queued.status_code == 202
    told = queued.json()
    name = told["result"]["request_id"]
    assert told == {
        "result": {"status": "queued", "request_id": name, "model": MODEL},
        "success": True,
        "errors": [],
        "messages": [],
    }
    result = polled(cloud.http, THERE, name)
    first, second, third, fourth = result["responses"]
    assert [each["id"] for each in result["responses"]] == [0, 1, 2, 3]
    assert [each["success"] for each in result["responses"]] == [True, True, True, False]
    references = [each["external_reference"] for each in result["responses"]]
    assert references == ["story1", None, None, "story4"]
    assert first["result"]["response"] == run(messages=said(FRANCE))["response"]
    assert second["result"]["response"] == OSLO
    assert third["result"]["response"] == " is Paris."
    assert fourth["result"] is None
    assert fourth["errors"][0]["code"] == 5004
    used = [each["result"]["usage"] for each in (first, second, third)]
    for count in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert result["usage"][count] == sum(each[count] for each in used)
    (job,) = cloud.listed("/v1/jobs", **{"metadata[external_reference]": "story1"})
    assert cloud.job(job["id"])["result"]["service_tier"] == "flex"
    (job,) = cloud.listed("/v1/jobs", **{"metadata[order]": "4711"})
    stranger = cloud.command("keys", "create", "--account", "somebody else")
    with cloud.client(stranger) as other:
        assert other.post(THERE, json={"request_id": name}).status_code == 404


def test_a_batch_is_queued_running_and_in_part_cancelled(tram: Stack):
    address, words = "/ai/run/tiny", ("!hang", "!tokens=2")
    body = {"requests": [{"prompt": text} for text in words]}
    headers = {"Idempotency-Key": tram.folder.name}
    asked = [tram.http.post(f"{address}?queueRequest=true", json=body, headers=headers) for _ in range(2)]
    first, second = (answer.json()["result"]["request_id"] for answer in asked)
    assert first == second
    assert asked[1].headers["idempotent-replayed"] == "true"
    other = body | {"requests": [{"prompt": "x"}]}
    assert tram.http.post(f"{address}?queueRequest=true", json=other, headers=headers).status_code == 422
    tram.engine.wait(running=1)
    waiting = tram.http.post(address, json={"request_id": first})
    assert (waiting.status_code, waiting.json()["result"]["status"]) == (202, "running")
    assert tram.http.post("/ai/run/other", json={"request_id": first}).status_code == 404
    (hanging,) = tram.listed("/v1/jobs", state="in_progress")
    tram.http.delete(f"/v1/jobs/{hanging['id']}").raise_for_status()
    responses = polled(tram.http, address, first)["responses"]
    assert [each["success"] for each in responses] == [False, True]
    assert responses[0]["errors"][0]["code"] == 3008
    assert responses[1]["result"]["response"] == "token 1 token 2"


@pytest.mark.usefixtures("full")
def test_a_batch_waits_in_the_queue(tram: Stack):
    answer = tram.http.post("/ai/run/tiny", json={"requests": [{"prompt": "hello"}], "queueRequest": True})
    name = answer.json()["result"]["request_id"]
    waiting = tram.http.post("/ai/run/tiny", json={"request_id": name})
    assert (waiting.status_code, waiting.json()["result"]["status"]) == (202, "queued")
    (job,) = tram.listed("/v1/jobs", state="queued")
    tram.http.delete(f"/v1/jobs/{job['id']}").raise_for_status()


def test_who_hangs_up_cancels(tram: Stack):
    for path, body in (("/ai/run/tiny", {}), ("/v1/completions", {"max_tokens": 500})):
        words = {"prompt": "!tokens=400 rate=20", "stream": True}
        with tram.http.stream("POST", path, json=body | words) as response:
            job_id = response.headers["x-tram-job"]
            next(response.iter_bytes())
        assert tram.ended(job_id)["state"] == "cancelled"
        assert tram.engine.aborted(job_id)["by"] == "request"


@pytest.mark.parametrize("path", ["/ai/run/tiny", "/v1/completions"])
@pytest.mark.parametrize("stream", [False, True])
def test_an_engine_that_fails_is_told_in_the_doors_own_words(tram: Stack, path, stream):
    answer = tram.http.post(path, json={"prompt": "!status=400", "stream": stream})
    assert answer.status_code == 400
    told = answer.json()
    if path == "/v1/completions":
        assert told["error"]["type"] == "invalid_request_error"
    else:
        assert (told["success"], told["result"], told["errors"][0]["code"]) == (False, None, 5004)


def test_a_stream_that_breaks_says_so(tram: Stack):
    answer = tram.http.post(
        "/ai/run/tiny", json={"prompt": "!tokens=9 fail_after=3", "n": None, "stream": True, "seed": 1}
    )
    assert answer.status_code == 400, "n has no place here, not even as null"
    body = {"prompt": "!tokens=9 fail_after=3", "stream": True, "guided_json": {"type": "object"}}
    *_, last = data_of(tram.http.post("/ai/run/tiny", json=body))
    told = json.loads(last)
    assert (told["success"], len(told["errors"])) == (False, 1)


def test_a_raw_prompt_reaches_the_engine_as_it_is(tram: Stack):
    prompt = "<s>[INST] Ünïcödé 東京 🎉 \\n [/INST]"
    body = {"prompt": prompt, "max_tokens": 3, "stop": ["x"], "seed": 5, "top_k": 4, "logprobs": 2}
    answer = tram.http.post("/v1/completions", json=body).raise_for_status().json()
    assert answer["choices"][0]["text"] == "token 1 token 2 token 3"
    sent = tram.engine.requests()[-1]
    assert {name: sent[name] for name in body} == body
    assert not {"messages", "raw", "echo", "max_completion_tokens", "top_logprobs", "service_tier"} & set(sent)
    assert (sent["stream"], bool(sent["rid"]), bool(sent["cache_salt"])) == (True, True, True)
