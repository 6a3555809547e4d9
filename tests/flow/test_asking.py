"""Does the model get what a client may ask of it, and does it answer in that shape?  The real engine, asked through the service."""

import json
import time
from collections.abc import Iterator

import httpx2
import openai
import pytest

from infra.engine.tokenizer import counter_for
from models.cards.card import catalogue
from tests.flow.stack import Stack, said

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
MODEL = "tram-demo"
FRANCE = "What is the capital of France?"
PARIS = "The capital of France is Paris."
LONDON = "What is the weather in London?"
BOTH = "What is the weather in Paris and in London?"
BEGUN = [*said(FRANCE), {"role": "assistant", "content": "The capital of"}]
CAPITAL = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "country": {"type": "string"}},
    "required": ["city", "country"],
}
QUICK_S = 10.0  # refused at once, or answered at once: on crowded cores, too


def tool(name: str, **function: object) -> dict:
    place = {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]}
    fields = {"name": name, "description": "Get the current weather", "parameters": place}
    return {"type": "function", "function": fields | function}


def named(name: str) -> dict:
    return {"type": "function", "function": {"name": name}}


WEATHER, MAIL = tool("get_weather"), tool("send_mail")
CITIES = {"type": "object", "properties": {"location": {"enum": ["Oslo", "Rome"]}}, "required": ["location"]}
STRICT = tool("get_weather", strict=True, parameters=CITIES | {"additionalProperties": False})


@pytest.fixture
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key=stack.key, max_retries=0) as made:
        yield made


@pytest.fixture(params=["whole", "streamed"])
def choice_of(request: pytest.FixtureRequest, client: openai.OpenAI):
    """The one choice of an answer, asked for in either way."""

    def whole(**fields):
        return client.chat.completions.create(model=MODEL, **fields).choices[0]

    def streamed(**fields):
        with client.chat.completions.stream(model=MODEL, **fields) as stream:
            return stream.get_final_completion().choices[0]

    return whole if request.param == "whole" else streamed


def calls_of(choice) -> list[tuple[str, dict]]:
    calls = choice.message.tool_calls or []
    return [(call.function.name, json.loads(call.function.arguments)) for call in calls]


@pytest.mark.parametrize(
    ("wish", "cities"),
    [*((wish, ["Paris", "London"]) for wish in ("auto", "required", named("get_weather"))), ("none", [])],
)
def test_the_choice_of_tools_is_heeded(choice_of, wish, cities):
    choice = choice_of(messages=said(BOTH), tools=[WEATHER], tool_choice=wish)
    assert calls_of(choice) == [("get_weather", {"location": city}) for city in cities]
    assert choice.finish_reason == ("tool_calls" if cities else "stop")
    assert bool(choice.message.content) == (not cities)


def test_the_tool_that_is_named_is_the_one_that_is_called(choice_of):
    """The engine alone would call the other; for the place the toy, which knows no mail, has no words."""
    tools = [tool("get_weather", strict=True), tool("send_mail", strict=True)]
    choice = choice_of(messages=said(LONDON), tools=tools, tool_choice=named("send_mail"))
    ((name, arguments),) = calls_of(choice)
    assert (name, set(arguments)) == ("send_mail", {"location"})


@pytest.mark.parametrize("tools", [[WEATHER], [tool("get_weather", strict=True)]], ids=["lenient", "strict"])
def test_who_wants_one_call_gets_one(choice_of, tools):
    choice = choice_of(messages=said(BOTH), tools=tools, parallel_tool_calls=False)
    assert calls_of(choice) == [("get_weather", {"location": "Paris"})]
    assert (choice.finish_reason, choice.message.content or "") == ("tool_calls", "")


@pytest.mark.parametrize("wish", ["auto", "required", named("get_weather")], ids=str)
def test_a_strict_tool_is_called_as_its_schema_says(choice_of, wish):
    choice = choice_of(messages=said(LONDON), tools=[STRICT], tool_choice=wish)
    ((name, arguments),) = calls_of(choice)
    assert (name, choice.finish_reason) == ("get_weather", "tool_calls")
    assert arguments["location"] in {"Oslo", "Rome"}, "left alone it would say London"


def test_several_calls_are_strict_one_by_one_or_none_is_made(choice_of):
    cities = {"type": "object", "properties": {"location": {"enum": ["Paris", "London"]}}, "required": ["location"]}
    tools = [tool("get_weather", strict=True, parameters=cities), MAIL]
    choice = choice_of(messages=said(BOTH), tools=tools)
    assert calls_of(choice) == [("get_weather", {"location": city}) for city in ("Paris", "London")]
    choice = choice_of(messages=said(FRANCE), tools=tools)
    assert (choice.message.content, calls_of(choice), choice.finish_reason) == (PARIS, [], "stop")


def test_the_schema_of_a_lenient_tool_is_no_grammar(choice_of):
    """One that no grammar can be made of does no harm where it binds nothing."""
    odd = tool("get_weather", parameters={"type": "object", "properties": {"location": {"type": "string", "enum": []}}})
    choice = choice_of(messages=said(LONDON), tools=[odd], tool_choice="required")
    assert calls_of(choice) == [("get_weather", {"location": "London"})]


def test_an_answer_has_the_shape_that_was_asked_for(stack):
    text = "Give me the capital of Norway as JSON with city and country."
    guided, formed = (
        stack.chat(text, **shape)["choices"][0]["message"]["content"]
        for shape in (
            {"guided_json": CAPITAL},
            {"response_format": {"type": "json_schema", "json_schema": {"name": "capital", "schema": CAPITAL}}},
        )
    )
    assert guided == formed
    assert json.loads(guided) == {"city": "Oslo", "country": "Norway"}
    assert stack.chat(FRANCE, regex="(Oslo|Rome), says who knows")["choices"][0]["message"]["content"][4:] in {
        ", says who knows",
        "e, says who knows",
    }


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"regex": "a{5,2}"}, "regex"),
        ({"regex": r"\p{L}+"}, "regex"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": []}}}},
            "response_format",
        ),
        ({"logit_bias": {"999999": 1}}, "logit_bias"),
        ({"tools": [tool("f", parameters={"type": "object", "properties": 5})]}, "tools[0].function.parameters"),
        ({"tools": [tool("f", strict=True, parameters={"enum": []})]}, "tools"),
    ],
    ids=str,
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_only_the_engine_can_refuse_is_the_callers_fault_by_name(stack, fields, param, stream):
    answer = stack.http.post("/v1/chat/completions", json={"messages": said(FRANCE), "stream": stream, **fields})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert "/project/" not in error["message"]
    assert len(error["message"]) < 600
    assert stack.chat(FRANCE)["choices"][0]["message"]["content"] == PARIS, "the engine serves on"


@pytest.mark.parametrize(
    "fields",
    [
        {"regex": "((((.*)*)*)*)*"},
        {"regex": "(.{1,50}){1,20}x"},
        {"guided_json": {"type": "string", "pattern": "((.+)+)+x"}},
        {"guided_json": {"properties": {f"p{number}": {} for number in range(5000)}}},
        {"guided_json": {"enum": [f"value {number}" for number in range(20_000)]}},
        {"guided_json": {"$ref": "#"}},
        {"guided_json": {"anyOf": [{"$ref": "#"}]}},
    ],
    ids=lambda fields: str(fields)[:40],
)
def test_what_would_stop_the_engine_never_gets_there(stack, fields):
    began = time.monotonic()
    answer = stack.http.post("/v1/chat/completions", json={"messages": said(FRANCE), "max_tokens": 300, **fields})
    assert answer.status_code == 400, answer.text
    assert stack.chat(FRANCE)["choices"][0]["message"]["content"] == PARIS
    assert time.monotonic() - began < QUICK_S


def test_a_token_can_be_forbidden(stack, engine_url):
    asked = {"prompt": " Paris", "add_special_tokens": False}
    ids = httpx2.post(f"{engine_url}/v1/tokenize", json=asked, trust_env=False).json()["tokens"]
    assert stack.chat(FRANCE)["choices"][0]["message"]["content"] == PARIS
    answer = stack.chat(FRANCE, logit_bias=dict.fromkeys(map(str, ids), -100), max_tokens=10)
    assert "Paris" not in answer["choices"][0]["message"]["content"]


@pytest.mark.parametrize("wish", [{"top_k": 1}, {"min_p": 1.0}], ids=str)
def test_hot_sampling_is_cooled_by_what_cuts_its_tail(stack, wish):
    hot = {"temperature": 5, "seed": 4711, "max_tokens": 30}
    assert stack.chat(FRANCE, **hot, **wish)["choices"][0]["message"]["content"] == PARIS
    assert stack.chat(FRANCE, **hot)["choices"][0]["message"]["content"] != PARIS


@pytest.mark.parametrize("wish", [{"repetition_penalty": 2.0}, {"frequency_penalty": 2.0}], ids=str)
def test_penalties_are_felt(stack, wish):
    text = "Count to twenty."
    plain = stack.chat(text)["choices"][0]["message"]["content"]
    assert stack.chat(text, **wish, max_tokens=80)["choices"][0]["message"]["content"] != plain


def test_a_message_that_was_begun_is_continued(stack, choice_of):
    choice = choice_of(messages=BEGUN, extra_body={"continue_final_message": True})
    assert ("The capital of" + choice.message.content, choice.finish_reason) == (PARIS, "stop")
    body = {"messages": BEGUN, "continue_final_message": True}
    usage = stack.http.post("/v1/chat/completions", json=body).json()["usage"]
    counter = counter_for(catalogue()[MODEL])
    assert counter is not None
    assert usage["prompt_tokens"] == counter.count(BEGUN, continue_final_message=True)


def test_one_turn_that_was_continued_is_the_parent_of_the_next(stack):
    """The transcript holds the whole message, as the next turn sends it back."""
    begun = stack.http.post("/v1/jobs", json={"messages": BEGUN, "continue_final_message": True}).json()["id"]
    first = stack.ended(begun)
    whole = {"role": "assistant", "content": PARIS}
    following = [BEGUN[0], whole, *said("What is the capital of Italy?")]
    second = stack.ended(stack.http.post("/v1/jobs", json={"messages": following}).json()["id"])
    assert second["conversation_id"] == first["conversation_id"]
    turns = stack.http.get(f"/v1/conversations/{first['conversation_id']}").json()["turns"]
    assert [turn["id"] for turn in turns[-2:]] == [begun, second["id"]]
    assert turns[-1]["parent_id"] == begun
    assert turns[-2]["answers"][0]["message"] == whole


@pytest.mark.parametrize(
    ("asked", "used"), [(None, "default"), ("auto", "default"), ("fast", "priority"), ("flex", "flex")]
)
def test_the_tier_that_was_used_is_told(client, asked, used):
    fields = {"model": MODEL, "messages": said(FRANCE)} | ({"service_tier": asked} if asked else {})
    made = client.chat.completions.create(**fields)
    assert made.service_tier == client.chat.completions.retrieve(made.id).service_tier == used
    assert {chunk.service_tier for chunk in client.chat.completions.create(**fields, stream=True)} == {used}


def test_a_replay_waits_until_nobody_else_does(stack):
    source = stack.submit(FRANCE, service_tier="fast")
    assert stack.ended(source)["result"]["service_tier"] == "priority"
    (turn,) = stack.replayed(source_request_id=source)["turns"]
    assert stack.job(turn["job_id"])["result"]["service_tier"] == "flex"
