"""What a run's questions are made of, and how a mistake in them is told: by the line, or the place in the body."""

import time

import pytest

from models import datasets
from models.datasets import Item
from models.errors import InvalidRequest
from models.wire.evals import ITEMS_MOST, CompletionsSource, Given

ASK = {"type": "template", "template": [{"role": "user", "content": "{{item.ask}}"}]}
REFER = {"type": "item_reference", "item_reference": "item.input"}


def source(**changes):
    plain = {"type": "completions", "source": {"type": "file_id", "id": "f"}, "input_messages": ASK, "model": "m"}
    return CompletionsSource.model_validate(plain | changes)


def test_lines_become_items_and_empty_ones_are_overlooked():
    lines = [b'{"item": {"a": 1}}', b"", b'  {"item": {"a": 2}, "sample": {"output_text": "x"}} ']
    assert list(datasets.from_lines(lines)) == [
        Item({"a": 1}, None, "line 1"),
        Item({"a": 2}, {"output_text": "x"}, "line 3"),
    ]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([b"{"], "line 1 is not valid JSON"),
        ([b'{"item": {}}', b'{"a": 1}'], "line 2 has no `item`"),
        ([b"[]"], "line 1 has no `item`"),
        ([b'{"item": []}'], "line 1 has no `item`"),
        ([b'{"item": {}, "other": 1}'], "line 1: 'other' is not known"),
        ([b'{"item": {}, "sample": "x"}'], "line 1: `sample` has to be"),
        ([b'{"item": {"a": "\\u0000"}}'], r"line 1: item\.a: NUL"),
        ([b'{"item": {"a": 123456789012345678901}}'], r"line 1: item\.a: integers have at most 64 bits"),
        ([b'{"item": {"a": ' + b"[" * 260 + b"]" * 260 + b"}}"], "line 1: the body is nested more than 100"),
        ([b"", b""], "holds no items"),
    ],
)
def test_a_bad_line_is_named(lines, words):
    with pytest.raises(InvalidRequest, match=words) as wrong:
        list(datasets.from_lines(lines))
    assert wrong.value.param == "data_source.source.id"


def test_a_file_has_a_limit():
    with pytest.raises(InvalidRequest, match="more than 20,000"):
        list(datasets.from_lines(b'{"item": {}}' for _ in range(ITEMS_MOST + 1)))


def test_items_are_held_against_the_evals_schema():
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    items = datasets.inline([Given(item={"a": 1}), Given(item={"a": "x"})])
    assert datasets.checked(items[:1], schema) == items[:1]
    assert datasets.checked(items, None) == items
    with pytest.raises(InvalidRequest, match="does not fit") as wrong:
        datasets.checked(items, schema)
    assert wrong.value.param == "data_source.source.content[1]"


def test_an_item_becomes_a_chat_with_the_parameters_that_are_set():
    told = source(sampling_params={"temperature": 0.5, "seed": None}).model_dump(exclude_none=True)
    assert datasets.chat(told, {"ask": "Why?"}) == {
        "model": "m",
        "messages": [{"role": "user", "content": "Why?"}],
        "temperature": 0.5,
    }


@pytest.mark.parametrize(
    ("held", "messages"),
    [
        ("Why?", [{"role": "user", "content": "Why?"}]),
        ([{"role": "user", "content": "a"}], [{"role": "user", "content": "a"}]),
    ],
)
def test_messages_may_stand_in_the_item(held, messages):
    told = source(input_messages=REFER).model_dump(exclude_none=True)
    assert datasets.messages_of(told, {"input": held}) == messages


@pytest.mark.parametrize("held", [5, ["a"], {"role": "user"}])
def test_what_is_no_messages_is_told(held):
    with pytest.raises(InvalidRequest, match=r"item\.input holds no messages"):
        datasets.messages_of(source(input_messages=REFER).model_dump(), {"input": held})


def test_a_responses_source_asks_a_chat():
    given = {
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}},
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
        "max_completions_tokens": 9,
    }
    told = source(type="responses", sampling_params=given).model_dump(exclude_none=True)
    assert datasets.chat(told, {"ask": "Why?"}) == {
        "model": "m",
        "messages": [{"role": "user", "content": "Why?"}],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
        },
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "max_completion_tokens": 9,
    }


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text"),
        ({"text": {"format": {"type": "odd"}}}, "text"),
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"text": "json"}, "text"),
        ({"text": {}, "response_format": {"type": "text"}}, "text"),
        ({"max_completions_tokens": 0}, "max_completions_tokens"),
        ({"max_completions_tokens": 5, "max_completion_tokens": 5}, "max_completions_tokens"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": ["f"]}, "tools[0]"),
    ],
)
def test_a_parameter_in_other_words_is_refused_in_those(given, param):
    with pytest.raises(InvalidRequest) as wrong:
        datasets.check_chats(source(type="responses", sampling_params=given), [Item({"ask": "a"})], id)
    assert wrong.value.param == f"data_source.sampling_params.{param}"
    assert wrong.value.param in wrong.value.message


@pytest.mark.parametrize(
    ("arguments", "seen"), [('{"symbols": ["a"]}', {"symbols": ["a"]}), ("{", "{"), ("", ""), (None, None), (7, 7)]
)
def test_the_arguments_of_a_call_are_looked_into(arguments, seen):
    answer = {"content": None, "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": arguments}}]}
    assert datasets.answered(answer)["output_tools"][0]["function"] == {"name": "f", "arguments": seen}
    assert datasets.answered({"tool_calls": ["odd", {"function": 5}]})["output_tools"] == ["odd", {"function": 5}]


def refuse(body):
    raise InvalidRequest("max_completion_tokens: too many", param="max_completion_tokens")


@pytest.mark.parametrize(
    ("changes", "item", "check", "param"),
    [
        ({}, {}, id, "data_source.input_messages.template"),
        ({"input_messages": REFER}, {"input": [{"role": "nobody"}]}, id, "data_source.input_messages"),
        ({"sampling_params": {"temperature": "x"}}, {"ask": "a"}, id, "data_source.sampling_params.temperature"),
        (
            {"sampling_params": {"max_completion_tokens": 9}},
            {"ask": "a"},
            refuse,
            "data_source.sampling_params.max_completion_tokens",
        ),
    ],
)
def test_a_chat_that_could_not_be_asked_is_refused_before_it_is(changes, item, check, param):
    with pytest.raises(InvalidRequest) as wrong:
        datasets.check_chats(source(**changes), [Item(item)], check)
    assert wrong.value.param == param


def test_graders_see_an_answer_that_came_along_as_one_that_was_made():
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    choices = [{"message": {"content": '{"a": 1}', "tool_calls": [call]}}]
    seen = datasets.sample_of({"choices": choices, "model": "m"})
    called = call | {"function": {"name": "f", "arguments": {}}}
    assert (seen["output_text"], seen["output_json"], seen["output_tools"]) == ('{"a": 1}', {"a": 1}, [called])
    assert datasets.sample_of({"output_text": "plain"}) == {"output_text": "plain", "output_json": None}
    assert datasets.sample_of({"choices": "odd"}) == {"choices": "odd"}
    assert datasets.sample_of(None) == {}


def test_what_becomes_of_all_items_together_has_a_limit(monkeypatch):
    monkeypatch.setattr(datasets, "RUN_CHARACTERS", 1_000)
    items = [Item({"ask": "x" * 100}) for _ in range(7)]
    datasets.check_chats(source(), items[:6], lambda _: None)
    with pytest.raises(InvalidRequest, match="more than 1,000 characters together") as wrong:
        datasets.check_chats(source(), items, lambda _: None)
    assert wrong.value.param == "data_source.input_messages.template"


def test_checking_all_items_together_has_a_limit(monkeypatch):
    steps = {f"s{n}": {"allOf": [{"$ref": f"#/$defs/s{n + 1}"}] * 2} for n in range(8)}
    schema = {"$ref": "#/$defs/s0", "$defs": steps | {"s8": {}}}
    monkeypatch.setattr(datasets, "CHECK_S", 0.1)
    begun = time.thread_time()
    with pytest.raises(InvalidRequest, match="a simpler one is wanted") as wrong:
        datasets.checked([Item({}) for _ in range(1_000)], schema)
    assert time.thread_time() - begun < 1
    assert wrong.value.param == "data_source.source.content"
