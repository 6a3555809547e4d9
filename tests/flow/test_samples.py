"""Do the providers' own samples work here as printed, but for host and key?  AIGateway's, Azion's and IONOS's, word for word.

Their bodies stand here as their pages have them.  Two stacks answer: on one the text model's card is served, by the toy model on the
real engine; on the other the card that sees, by the scriptable one.  Addresses of pictures lie on a server of the test's.
"""

import base64
import json
import subprocess
from collections.abc import Iterator
from itertools import chain

import openai
import pytest

from tests.fakes.receiver import Reply
from tests.flow.engine import Engine, tokens
from tests.flow.stack import Stack

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
CARD, SEEING_CARD = "mistral-small-24b-instruct-2501-awq", "mistral-small-3.1-24b-instruct-2503"
ICON = b"\0\0\1\0\1\0\x10\x10" + bytes(2000)
JPEG = b"\xff\xd8\xff\xc0\0\x11\x08\1\0\1\0" + bytes(2000)
"""As much of each as says what it is and how large: 16 pixels a side, and 256."""

AIGATEWAY = """{
    "model": "mistralai/mistral-small-3.1-24b-instruct",
    "messages": [{"role":"user","content":"hello"}],
    "stream": true
  }"""
AIGATEWAY_BODY = """{
  "model": "mistralai/mistral-small-3.1-24b-instruct",
  "messages": [
    { "role": "system", "content": "You are a helpful assistant." },
    { "role": "user",   "content": "Hello!" }
  ],
  "temperature": 0.7,
  "top_p": 0.95,
  "max_tokens": 1024,
  "stream": false,
  "tools": [
    {
      "type": "function",
      "function": {
        "name": "get_weather",
        "description": "Get current weather for a city",
        "parameters": {
          "type": "object",
          "properties": {
            "city": { "type": "string" }
          },
          "required": ["city"]
        }
      }
    }
  ],
  "tool_choice": "auto",
  "parallel_tool_calls": true,
  "response_format": { "type": "json_object" }
}"""
AZION_CHAT = """{ "stream": true, "model": "casperhansen/mistral-small-24b-instruct-2501-awq", "max_tokens": 1024, "messages": [ \
{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": "Name the european capitals"} ]}"""
AZION_TOOL = """{ "stream": true, "model": "casperhansen/mistral-small-24b-instruct-2501-awq", "max_tokens": 1024, "messages": [ \
{"role": "system", "content": "You are a helpful assistant with access to tools."}, {"role": "user", "content": "What is the weather \
in London?"} ], "tools": [ { "type": "function", "function": { "name": "get_weather", "description": "Get the current weather for a \
location", "parameters": { "type": "object", "properties": { "location": { "type": "string", "description": "The city and state" } }, \
"required": ["location"] } } } ]}"""
AZION_IMAGE = """{ "stream": true, "model": "casperhansen/mistral-small-24b-instruct-2501-awq", "max_tokens": 1024, "messages": [ \
{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": [ {"type": "text", "text": "What is in this \
image?"}, {"type": "image_url", "image_url": {"url": "https://example.com/image.jpg"}} ]} ]}"""
IONOS = """{
"model": "mistralai/Mistral-Small-24B-Instruct",
"messages": [
{
"role": "user",
"content": [
{
"type": "text",
"text": "What do you see in this image?"
},
{
"type": "image_url",
"image_url": {
"url": "https://www.ionos.com/favicon.ico?v2",
"detail": "auto"
}
}
]
}
],
"temperature": 0.7,
"max_tokens": 1000
}"""
AZION_RUN = ("casperhansen-mistral-small-24b-instruct-2501-awq", json.loads(AZION_CHAT)["messages"])


@pytest.fixture(scope="module")
def reading(engine_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    settings = {"TRAM_ENGINE_URL": engine_url, "TRAM_ENGINE_MODEL": "tram-demo", "TRAM_MODEL": CARD}
    with Stack(tmp_path_factory.mktemp("reading"), **settings) as running:
        yield running


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Engine() as engine, Stack(tmp_path_factory.mktemp("sampled"), engine, TRAM_MODEL=SEEING_CARD) as running:
        yield running


@pytest.fixture(params=["reading", "seeing"])
def stack(request: pytest.FixtureRequest) -> Stack:
    return request.getfixturevalue(request.param)


def curl(stack: Stack, body: str, key: str = "Authorization: Bearer $API_KEY") -> str:
    """As the pages print it, in a shell, with the body in single quotes; Azion's has no line for a key."""
    command = f"""curl -sS {stack.url}/v1/chat/completions \\
  -H "{key}" \\
  -H "Content-Type: application/json" \\
  -d '{body}'"""
    environment = {"API_KEY": stack.key, "PATH": "/usr/local/bin:/usr/bin:/bin", "no_proxy": "*"}
    return subprocess.run(
        ("sh", "-c", command), env=environment, capture_output=True, text=True, check=True, timeout=60
    ).stdout


def chunks(printed: str) -> list[dict]:
    """Of a whole stream, which looks as AIGateway's page says: a role, then content or calls, an end, the terminator."""
    lines = [line.removeprefix("data: ") for line in printed.split("\n") if line.startswith("data: ")]
    assert lines.pop() == "[DONE]", printed
    found = [json.loads(line) for line in lines]
    assert {(one["object"], one["id"], one["model"]) for one in found} == {
        ("chat.completion.chunk", found[0]["id"], found[0]["model"])
    }
    choices = [one["choices"][0] for one in found]
    assert choices[0]["delta"]["role"] == "assistant"
    assert [one["finish_reason"] for one in choices[:-1]] == [None] * (len(choices) - 1)
    assert choices[-1]["finish_reason"] in {"stop", "tool_calls"}
    return found


def content(found: list[dict]) -> str:
    return "".join(one["choices"][0]["delta"].get("content") or "" for one in found)


def test_aigateways_quickstart(stack):
    found = chunks(curl(stack, AIGATEWAY))
    assert found[0]["model"] == "mistralai/mistral-small-3.1-24b-instruct"
    assert content(found) in {"Hello! How can I help you today?", tokens(16)}


def test_aigateways_quickstart_in_python(stack):
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key=stack.key) as client:
        stream = client.chat.completions.create(
            model="mistralai/mistral-small-3.1-24b-instruct",
            messages=[{"role": "user", "content": "Hello!"}],
            stream=True,
        )
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream)


def test_every_field_of_aigateways_body(stack):
    """JSON for an answer, and a tool that may be called instead."""
    answer = json.loads(curl(stack, AIGATEWAY_BODY))
    assert (answer["object"], answer["model"]) == ("chat.completion", "mistralai/mistral-small-3.1-24b-instruct")
    (choice,) = answer["choices"]
    assert (choice["index"], choice["message"]["role"]) == (0, "assistant")
    assert choice["finish_reason"] in {"stop", "tool_calls"}
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("text", "city", "country"),
    [("What is the weather in London?", "London", None), ("Give me the capital of Italy as JSON.", "Rome", "Italy")],
)
def test_aigateways_body_calls_its_tool_or_answers_in_json(reading, text, city, country, stream):
    body = json.loads(AIGATEWAY_BODY) | {"messages": [{"role": "user", "content": text}], "temperature": 0}
    with openai.OpenAI(base_url=f"{reading.url}/v1", api_key=reading.key) as client:
        del body["stream"]
        if stream:
            with client.chat.completions.stream(**body) as events:
                choice = events.get_final_completion().choices[0]
        else:
            choice = client.chat.completions.create(**body).choices[0]
    if country is None:
        (call,) = choice.message.tool_calls
        assert (call.function.name, choice.finish_reason) == ("get_weather", "tool_calls")
        assert json.loads(call.function.arguments) == {"city": city}
    else:
        assert json.loads(choice.message.content) == {"city": city, "country": country}
        assert (choice.message.tool_calls, choice.finish_reason) == (None, "stop")


def test_azions_chat(stack):
    assert content(chunks(curl(stack, AZION_CHAT)))


def test_azions_tool_call(reading):
    found = chunks(curl(reading, AZION_TOOL))
    calls = list(chain.from_iterable(one["choices"][0]["delta"].get("tool_calls") or () for one in found))
    assert calls[0]["function"]["name"] == "get_weather"
    assert json.loads("".join(call["function"]["arguments"] for call in calls)) == {"location": "London"}
    assert found[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_azions_edge_function_by_the_name_it_uses(stack):
    """There a function of theirs makes the request; the model's name, of another spelling, is what is left to us."""
    model, messages = AZION_RUN
    assert content(chunks(curl(stack, json.dumps({"model": model, "stream": True, "messages": messages}))))


@pytest.mark.parametrize(
    ("body", "place"), [(AZION_IMAGE, "messages[1].content[1]"), (IONOS, "messages[0].content[1]")]
)
def test_an_image_for_a_model_that_reads_only_is_refused_by_its_place(reading, body, place):
    error = json.loads(curl(reading, body))["error"]
    assert error == error | {"type": "invalid_request_error", "code": "unsupported_content_type", "param": place}
    assert "reads text only" in error["message"]


@pytest.mark.parametrize(
    ("body", "printed", "picture"),
    [(AZION_IMAGE, "https://example.com/image.jpg", JPEG), (IONOS, "https://www.ionos.com/favicon.ico?v2", ICON)],
)
def test_an_image_for_a_model_that_sees_is_looked_at(seeing, hooks, body, printed, picture):
    hooks.script(Reply(200, picture))
    answer = curl(seeing, body.replace(printed, f"{hooks.url}?v2"))
    said = content(chunks(answer)) if '"stream"' in body else json.loads(answer)["choices"][0]["message"]["content"]
    assert said == tokens(16)
    (sent,) = hooks.seen
    assert (sent.method, sent.path) == ("GET", "/hook?v2")
    shown = seeing.engine.requests()[-1]["messages"][-1]["content"][1]["image_url"]
    assert base64.b64decode(shown["url"].partition(",")[2]) == picture
    assert shown.get("detail") == json.loads(body)["messages"][-1]["content"][1]["image_url"].get("detail")


def test_ionos_model_without_its_image(stack):
    body = json.loads(IONOS) | {"messages": [{"role": "user", "content": "What is the capital of France?"}]}
    answer = json.loads(curl(stack, json.dumps(body)))
    assert (answer["model"], answer["choices"][0]["finish_reason"]) == (body["model"], "stop")
