"""What a request may say, and what one that says something else is told: the field at fault, by its place in the body."""

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from models.errors import InvalidRequest
from models.placement import Tier
from models.wire.chat import ChatRequest, JobRequest, engine_parameters, tier_of
from models.wire.problems import PARAM_CHARACTERS, explain

USER = {"role": "user", "content": "hello"}
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "7"}
RETURNED = {"role": "function", "name": "f", "content": None}
NAMED = {"type": "function", "function": {"name": "f"}}
BEGUN = {"role": "assistant", "content": "The"}
TEXT = {"type": "text", "text": "hello"}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True}}
HUGE = orjson.loads("123456789012345678901234567890")


def body(*messages, **changes):
    return {"messages": list(messages) or [USER], **changes}


def user(content):
    return body({"role": "user", "content": content})


def calling(**changes):
    return body(USER, {"role": "assistant", "tool_calls": [CALL | changes]}, RESULT)


def function(**changes):
    return body(tools=[{"type": "function", "function": {"name": "f"} | changes}])


def refusal(asked, kind=ChatRequest):
    with pytest.raises(ValidationError) as caught:
        kind.model_validate(asked)
    return explain(caught.value, asked)


GOOD = [
    body(),
    body({"role": "developer", "content": [TEXT], "name": "boss"}, USER),
    user([TEXT, IMAGE]),
    body(USER, {"role": "assistant", "content": "", "refusal": None}, USER),
    body(
        USER,
        {"role": "assistant", "content": "", **dict.fromkeys(("parsed", "annotations", "audio", "function_call"))},
        USER,
    ),
    calling(index=0, function=CALL["function"] | {"parsed_arguments": {}}),
    body(background=True, store=True),
    body(
        USER, {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "call_1", "content": [TEXT]}
    ),
    body(temperature=0, top_p=1, top_k=-1, min_p=0, seed=-(2**63), n=16, presence_penalty=-2, frequency_penalty=2.0),
    body(temperature=5, repetition_penalty=1.1, max_tokens=1, max_completion_tokens=2**62, seed=2**63 - 1),
    body(stop="x") | {"model": "m", "user": "u", "store": False, "conversation_id": "conv_1"},
    body(stop=["x" * 1_000] * 16, top_k=2**31 - 1, stream=True, stream_options={"include_usage": True}),
    body(
        tools=[{"type": "function", "function": {"name": f"f{n}"}} for n in range(127)] + [TOOL],
        tool_choice=NAMED,
        parallel_tool_calls=False,
    ),
    body(tools=[TOOL], tool_choice="required"),
    body(tool_choice="auto"),
    body(tool_choice="none"),
    body(functions=[TOOL["function"], {"name": "g"}], function_call={"name": "g"}),
    body(functions=[TOOL["function"]], function_call="none", regex="a"),
    body(function_call="auto"),
    body(USER, {"role": "assistant", "content": None, "function_call": CALL["function"]}, RETURNED),
    body(response_format={"type": "json_object"}),
    body(response_format=SCHEMA),
    body(logprobs=True, top_logprobs=20),
    body(top_logprobs=0),
    body(guided_json={"type": "object"}),
    body(regex="(yes|no)", response_format={"type": "text"}),
    body(tools=[TOOL], tool_choice="none", response_format={"type": "json_object"}),
    body(tools=[TOOL], response_format={"type": "text"}),
    body(tools=[TOOL], response_format=SCHEMA),
    body(tools=[TOOL], tool_choice=NAMED, guided_json={}),
    body(tools=[{"type": "function", "function": {"name": "f", "strict": True}}], tool_choice="required"),
    body(logit_bias={"0": -100, "1535": 100.0} | {str(n): 0 for n in range(1, 299)}),
    body(USER, BEGUN, continue_final_message=True, n=2),
    body(USER, {"role": "assistant", "content": [TEXT]}, continue_final_message=True),
    body(continue_final_message=False, modalities=["text"], safety_identifier="s", prompt_cache_key="k"),
    body(stream=True, stream_options={"include_obfuscation": False}),
    *(body(service_tier=tier) for tier in ("auto", "default", "flex", "scale", "priority", "fast")),
    body(metadata={"k" * 64: "v" * 512} | {str(n): "" for n in range(15)}),
    body(**dict.fromkeys(set(ChatRequest.model_fields) - {"messages"})),
]


@pytest.mark.parametrize("asked", GOOD)
def test_what_the_service_honours_is_taken(asked):
    ChatRequest.model_validate(asked)


BAD = [
    ({}, "messages"),
    ({"messages": None}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": "hello"}, "messages"),
    ({"messages": {"role": "user"}}, "messages"),
    ({"messages": [USER] * 4097}, "messages"),
    (body("hello"), "messages[0]"),
    (body(USER, None), "messages[1]"),
    (body({"content": "hello"}), "messages[0].role"),
    (body({"role": "robot", "content": "hello"}), "messages[0].role"),
    (body({"role": 1, "content": "hello"}), "messages[0].role"),
    (body({"role": "user"}), "messages[0].content"),
    (user(None), "messages[0].content"),
    (user(5), "messages[0].content"),
    (user([]), "messages[0].content"),
    (user(["hello"]), "messages[0].content[0]"),
    (user([{"text": "hello"}]), "messages[0].content[0].type"),
    (user([TEXT, {"type": "audio"}]), "messages[0].content[1].type"),
    (user([TEXT, {"type": "text"}]), "messages[0].content[1].text"),
    (user([TEXT, {"type": "text", "text": 1}]), "messages[0].content[1].text"),
    (user([{"type": "image_url", "image_url": "https://a.b"}]), "messages[0].content[0].image_url"),
    (user([{"type": "image_url", "image_url": {}}]), "messages[0].content[0].image_url.url"),
    (
        user([{"type": "image_url", "image_url": {"url": "x", "detail": "huge"}}]),
        "messages[0].content[0].image_url.detail",
    ),
    (body({"role": "system", "content": [{"type": "text"}]}), "messages[0].content[0].text"),
    (body({"role": "system", "content": [{"type": "text", "text": 1}]}), "messages[0].content[0].text"),
    (body({"role": "user", "user": 1, "content": 5}), "messages[0].content"),
    (body(USER, {"role": "assistant"}), "messages[1]"),
    (body(USER, {"role": "assistant", "content": None, "tool_calls": None}), "messages[1]"),
    (body(USER, {"role": "assistant", "tool_calls": []}), "messages[1].tool_calls"),
    (calling(id=None), "messages[1].tool_calls[0].id"),
    (calling(type="web"), "messages[1].tool_calls[0].type"),
    (calling(function={"name": "f"}), "messages[1].tool_calls[0].function.arguments"),
    (calling(function={"name": "f", "arguments": {}}), "messages[1].tool_calls[0].function.arguments"),
    (body({"role": "tool", "content": "7"}), "messages[0].tool_call_id"),
    (body(temperature="1"), "temperature"),
    (body(temperature=True), "temperature"),
    (body(temperature=5.1), "temperature"),
    (body(temperature=-0.1), "temperature"),
    (body(temperature=HUGE), "temperature"),
    (body(top_p=0), "top_p"),
    (body(top_p=1.1), "top_p"),
    (body(top_k=-2), "top_k"),
    (body(top_k=1.5), "top_k"),
    (body(top_k=HUGE), "top_k"),
    (body(top_k=2**31), "top_k"),
    (body(min_p=-1), "min_p"),
    (body(max_tokens=0), "max_tokens"),
    (body(max_tokens=True), "max_tokens"),
    (body(max_completion_tokens=HUGE), "max_completion_tokens"),
    (body(stop=1), "stop"),
    (body(stop=["x", 1]), "stop[1]"),
    (body(stop=["x"] * 17), "stop"),
    (body(stop=""), "stop"),
    (body(stop="x" * 1_001), "stop"),
    (body(stop=["x", "x" * 1_001]), "stop[1]"),
    (body(stop=["x", ""]), "stop[1]"),
    (body(n=0), "n"),
    (body(n=17), "n"),
    (body(seed=2**63), "seed"),
    (body(seed=-(2**63) - 1), "seed"),
    (body(presence_penalty=2.1), "presence_penalty"),
    (body(frequency_penalty=-2.1), "frequency_penalty"),
    (body(repetition_penalty=0), "repetition_penalty"),
    (body(tools=[]), "tools"),
    (body(tools=[TOOL] * 129), "tools"),
    (body(tools=[{"type": "web", "function": {"name": "f"}}]), "tools[0].type"),
    (body(tools=[TOOL, {"type": "function"}]), "tools[1].function"),
    (function(name="a b"), "tools[0].function.name"),
    (function(name="a\n"), "tools[0].function.name"),
    (function(name="a" * 65), "tools[0].function.name"),
    (function(parameters=[]), "tools[0].function.parameters"),
    (body(tools=[TOOL], tool_choice="any"), "tool_choice"),
    (body(tools=[TOOL], tool_choice={"type": "function"}), "tool_choice.function"),
    (body(tools=[TOOL, TOOL]), "tools[1].function.name"),
    (body(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "g"}}), "tool_choice.function.name"),
    (body(functions=[]), "functions"),
    (body(functions=[{"description": "f"}]), "functions[0].name"),
    (body(functions=[{"name": "f"}, {"name": "f"}]), "functions[1].name"),
    (body(functions=[{"name": "f"}], function_call={"name": "g"}), "function_call.name"),
    (body(functions=[{"name": "f"}], function_call="required"), "function_call"),
    (body(function_call={"name": "f"}), "function_call"),
    (body(functions=[{"name": "f"}], tools=[TOOL]), "tools"),
    (body(functions=[{"name": "f"}], tool_choice="auto"), "tool_choice"),
    (body(functions=[{"name": "f"}], parallel_tool_calls=True), "parallel_tool_calls"),
    (body(functions=[{"name": "f"}], regex="a"), "regex"),
    (body(functions=[{"name": "f", "strict": True, "parameters": {"$ref": "#"}}]), "functions[0].parameters"),
    (body(USER, {"role": "assistant", "function_call": CALL["function"]}), "messages[1].function_call"),
    (
        body(USER, {"role": "assistant", "tool_calls": [CALL], "function_call": CALL["function"]}, RESULT),
        "messages[1]",
    ),
    (body({"role": "function", "content": "7"}), "messages[0].name"),
    (body({"role": "function", "name": "f"}), "messages[0].content"),
    (body({"role": "function", "name": "f", "content": [TEXT]}), "messages[0].content"),
    (body(tool_choice="required"), "tool_choice"),
    (body(tool_choice={"type": "function", "function": {"name": "f"}}), "tool_choice"),
    (body(response_format="json"), "response_format"),
    (body(response_format={}), "response_format.type"),
    (body(response_format={"type": "xml"}), "response_format.type"),
    (body(response_format={"type": "json_schema"}), "response_format.json_schema"),
    (body(response_format={"type": "json_schema", "json_schema": {}}), "response_format.json_schema.name"),
    (body(response_format=SCHEMA, regex="a"), "regex"),
    (body(response_format=SCHEMA, guided_json={}), "guided_json"),
    (body(guided_json={}, regex="a"), "regex"),
    (body(guided_json=[]), "guided_json"),
    (body(guided_json={"not": {}}), "guided_json"),
    (body(guided_json={"anyOf": [{"$ref": "#"}]}), "guided_json.anyOf[0]"),
    (body(guided_json={"$ref": "#/$defs/a", "$defs": {"a": {"oneOf": [{"$ref": "#/$defs/a"}]}}}), "guided_json"),
    (body(guided_json={"properties": {"a": {"$ref": "#"}, "b": {"type": "text"}}}), "guided_json.properties.b"),
    (body(regex=""), "regex"),
    (body(regex="("), "regex"),
    (body(regex=5), "regex"),
    (body(tools=[TOOL], tool_choice="auto", regex="a"), "regex"),
    (body(tools=[TOOL], tool_choice="required", regex="a"), "regex"),
    (function(strict=True, parameters={"$ref": "#"}), "tools[0].function.parameters"),
    (function(strict=True, parameters={"items": {"uniqueItems": True}}), "tools[0].function.parameters.items"),
    (body(logit_bias={"a": 1}), "logit_bias.a"),
    (body(logit_bias={"-1": 1}), "logit_bias.-1"),
    (body(logit_bias={"1": 101}), "logit_bias.1"),
    (body(logit_bias={"1": "x"}), "logit_bias.1"),
    (body(logit_bias={str(n): 0 for n in range(301)}), "logit_bias"),
    (body(USER, BEGUN), "messages[1].role"),
    (body(USER, BEGUN, continue_final_message=False), "messages[1].role"),
    (body(BEGUN, continue_final_message=True), "messages[0].role"),
    (body(continue_final_message=True), "messages[0].role"),
    (body(USER, {"role": "assistant", "tool_calls": [CALL]}), "messages[1].tool_calls"),
    (body(USER, BEGUN | {"tool_calls": [CALL]}, continue_final_message=True), "messages[1].tool_calls"),
    (body(service_tier="fastest"), "service_tier"),
    (body(modalities=["audio"]), "modalities[0]"),
    (body(modalities=[]), "modalities"),
    (body(stream=True, stream_options={"include_obfuscation": True}), "stream_options.include_obfuscation"),
    (body(top_logprobs=3), "top_logprobs"),
    (body(logprobs=True, top_logprobs=21), "top_logprobs"),
    (body(stream_options={"include_usage": True}), "stream_options"),
    (body(stream="yes"), "stream"),
    (body(store="no"), "store"),
    (body(metadata=[]), "metadata"),
    (body(metadata={"a": 1}), "metadata.a"),
    (body(metadata={"user": 1}), "metadata.user"),
    (body(metadata={"k": "v" * 513}), "metadata.k"),
    (body(metadata={"k" * 65: "v"}), "metadata." + "k" * 65),
    (body(metadata={str(n): "v" for n in range(17)}), "metadata"),
    (body(user=1), "user"),
    (body(model=["m"]), "model"),
    (body(model="m" * 201), "model"),
    (body(background=True, store=False), "background"),
    (body(conversation_id=1), "conversation_id"),
]


@pytest.mark.parametrize(("asked", "param"), BAD)
def test_what_does_not_fit_is_refused_by_its_place(asked, param):
    told = refusal(asked)
    assert (told.param, told.own_code) == (param, "invalid_request")
    assert told.message.startswith(f"{param}: ")
    assert len(told.message) > len(param) + 10


UNKNOWN = [
    *(
        (body(**{name: value}), name)
        for name, value in (
            ("audio", {}),
            ("ebnf", "root ::= x"),
            ("function", []),
            ("guided_regex", "a"),
            ("ignore_eos", True),
            ("input_ids", [1]),
            ("lora_path", "x"),
            ("min_tokens", 1),
            ("prediction", None),
            ("reasoning_effort", "low"),
            ("rid", "job_"),
            ("stop_token_ids", [2]),
            ("verbosity", "low"),
            ("web_search_options", {}),
        )
    ),
    (body({**USER, "audio": {}}), "messages[0].audio"),
    (user([{**TEXT, "cache_control": {}}]), "messages[0].content[0].cache_control"),
    (body({"role": "system", "content": [{**TEXT, "x": 1}]}), "messages[0].content[0].x"),
    (user([{"type": "image_url", "image_url": {"url": "x", "size": 1}}]), "messages[0].content[0].image_url.size"),
    (calling(x=0), "messages[1].tool_calls[0].x"),
    (calling(function=CALL["function"] | {"x": 1}), "messages[1].tool_calls[0].function.x"),
    (body(tools=[TOOL | {"x": 1}]), "tools[0].x"),
    (function(x=1), "tools[0].function.x"),
    (body(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "f", "x": 1}}), "tool_choice.function.x"),
    (body(response_format={"type": "text", "x": 1}), "response_format.x"),
    (
        body(response_format={"type": "json_schema", "json_schema": {"name": "n", "x": 1}}),
        "response_format.json_schema.x",
    ),
    (body(stream=True, stream_options={"x": 1}), "stream_options.x"),
]


@pytest.mark.parametrize(("asked", "param"), UNKNOWN)
def test_what_is_not_known_is_refused_by_name_at_any_depth(asked, param):
    told = refusal(asked)
    assert (told.param, told.own_code) == (param, "unsupported_parameter")
    assert told.message == f"unsupported parameter: {param}"


def test_what_a_tool_or_a_schema_says_of_itself_is_the_callers():
    for inner in ({"title": "#", "x": [{"y": None}]}, {}):
        ChatRequest.model_validate(function(parameters=inner))
        ChatRequest.model_validate(
            body(response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": inner}})
        )


def test_of_several_faults_the_deepest_is_told():
    told = refusal(body({"role": "user", "content": [TEXT, {"type": "text"}]}, temperature=9))
    assert told.param == "messages[0].content[1].text"


@pytest.mark.parametrize(("content", "words"), [([], "at least 1 item"), (5, "valid string")])
def test_a_fault_in_one_of_two_shapes_is_told_in_the_words_of_the_nearer(content, words):
    assert words in refusal(user(content)).message


@pytest.mark.parametrize("asked", [[], "hello", 5, None])
def test_what_is_no_object_is_refused_as_a_whole(asked):
    told = refusal(asked)
    assert told.param is None
    assert told.message.startswith("body: ")


def test_a_callers_key_is_repeated_in_part():
    told = refusal(body(**{"x" * 100_000: 1}))
    assert told.param == "x" * PARAM_CHARACTERS
    assert len(told.message) < 2 * PARAM_CHARACTERS


def test_a_job_has_a_webhook_and_a_deadline_and_no_stream():
    JobRequest.model_validate(body(webhook_url="https://a.b", deadline=1_800_000_000, stream=False))
    assert refusal(body(stream=True), JobRequest).param == "stream"
    assert refusal(body(deadline="tomorrow"), JobRequest).param == "deadline"
    assert refusal(body(deadline=1.5), JobRequest).param == "deadline"
    for field in ("webhook_url", "deadline"):
        assert refusal(body(**{field: None})).own_code == "unsupported_parameter"


keys = st.sampled_from([*ChatRequest.model_fields, "role", "content", "type", "text", "function", "image_url", "x", ""])
words = st.sampled_from(
    ["user", "system", "assistant", "tool", "text", "image_url", "function", "json_schema", "auto", ""]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | words | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)
said = st.fixed_dictionaries(
    {"role": words, "content": values}, optional={"tool_calls": values, "name": values, "x": values}
)
bodies = st.dictionaries(keys | st.text(max_size=5), values, max_size=5)
near_misses = st.builds(lambda messages, more: {"messages": messages} | more, st.lists(said, max_size=3), bodies)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(bodies | near_misses, st.sampled_from([ChatRequest, JobRequest]))
def test_whatever_is_sent_is_taken_or_refused_in_words(asked, kind):
    try:
        kind.model_validate(asked)
    except ValidationError as error:
        told = explain(error, asked)
        assert type(told) is InvalidRequest
        assert told.message
        assert told.own_code in {"invalid_request", "unsupported_parameter"}
        assert told.param is None or len(told.param) <= PARAM_CHARACTERS


def test_the_engine_sees_parameters_and_nothing_of_ours():
    asked = body(temperature=0.5, stop=None, stream=True, stream_options={"include_usage": True}, n=2)
    ours = {
        "model": "m",
        "store": False,
        "metadata": {},
        "user": "u",
        "conversation_id": "c",
        "webhook_url": "w",
        "deadline": 1,
        "background": True,
        "service_tier": "flex",
        "safety_identifier": "s",
        "prompt_cache_key": "k",
        "modalities": ["text"],
    }
    assert engine_parameters(asked | ours) == {"temperature": 0.5, "n": 2}


@pytest.mark.parametrize(
    ("asked", "limit"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 6),
        ({"max_tokens": None, "max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": None}, 5),
        ({}, None),
    ],
)
def test_the_token_limit_has_one_name(asked, limit):
    assert engine_parameters(asked) == ({} if limit is None else {"max_completion_tokens": limit})


def test_guided_json_is_another_name_for_a_schema():
    schema = {"type": "object", "properties": {"a": {}}}
    format_ = {"type": "json_schema", "json_schema": {"name": "guided_json", "schema": schema}}
    assert engine_parameters({"guided_json": schema}) == {"response_format": format_}


def test_where_a_tool_is_named_the_engine_sees_no_other():
    """It would let the model call any."""
    other = {"type": "function", "function": {"name": "g"}}
    told = engine_parameters({"tools": [other, TOOL], "tool_choice": NAMED})
    assert told == {"tools": [TOOL], "tool_choice": NAMED}
    assert engine_parameters({"tools": [other, TOOL], "tool_choice": "auto"})["tools"] == [other, TOOL]


@pytest.mark.parametrize(
    ("asked", "tier"),
    [
        ({}, Tier.DEFAULT),
        ({"service_tier": None}, Tier.DEFAULT),
        ({"service_tier": "auto"}, Tier.DEFAULT),
        ({"service_tier": "scale"}, Tier.DEFAULT),
        ({"service_tier": "default"}, Tier.DEFAULT),
        ({"service_tier": "fast"}, Tier.PRIORITY),
        ({"service_tier": "priority"}, Tier.PRIORITY),
        ({"service_tier": "flex"}, Tier.FLEX),
    ],
)
def test_every_tier_of_openais_is_one_of_ours(asked, tier):
    assert tier_of(asked) is tier


@pytest.mark.parametrize("role", ["system", "user", "assistant", "tool"])
def test_of_many_parts_the_first_that_is_wrong_is_told(role):
    """A body has room for a million; each in several errors is gigabytes."""
    message = {"role": role, "content": [TEXT, *[{}] * 10_000], "tool_call_id": "call_1"}
    with pytest.raises(ValidationError) as caught:
        ChatRequest.model_validate(body(message))
    assert caught.value.error_count() < 10
    assert explain(caught.value, body(message)).param.startswith("messages[0].content[1]")


def test_of_many_calls_the_first_that_is_wrong_is_told():
    with pytest.raises(ValidationError) as caught:
        ChatRequest.model_validate(body({"role": "assistant", "tool_calls": [CALL, *[{}] * 10_000]}))
    assert caught.value.error_count() < 10


def test_not_all_that_is_wrong_with_a_body_is_looked_at():
    asked = body(**{f"k{number}": 1 for number in range(5_000)})
    with pytest.raises(ValidationError) as caught:
        ChatRequest.model_validate(asked)
    assert len(explain(caught.value, asked).param) == len("k100"), "of the first thousand the longest"
