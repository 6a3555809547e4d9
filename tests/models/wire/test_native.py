"""Is a native request a chat's in other words, and a chat's answer a native one's?"""

import json

import pytest

from models.errors import InvalidRequest
from models.wire.chat import ChatRequest
from models.wire.native import NativeChunks, chat_of, result_of, wants_json

USER = {"role": "user", "content": "a"}
MODEL = "@cf/x/y"
FUNCTION = {"name": "f", "description": "d", "parameters": {"type": "object"}}
TOOL = {"type": "function", "function": FUNCTION}
SCHEMA = {"type": "object"}
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


@pytest.mark.parametrize(
    ("body", "chat"),
    [
        ({"prompt": "a"}, {}),
        ({"messages": [USER]}, {}),
        ({"prompt": "a", "messages": None, "raw": False}, {"messages": [USER]}),
        ({"prompt": "a", "raw": True, "max_tokens": 5}, {"raw": True, "max_tokens": 5}),
        ({"messages": [USER], "prompt": None, "functions": [FUNCTION]}, {"tools": [TOOL]}),
        ({"messages": [USER], "tools": [FUNCTION, TOOL]}, {"tools": [TOOL, TOOL]}),
        (
            {"messages": [USER], "response_format": {"type": "json_schema", "json_schema": SCHEMA}},
            {"response_format": {"type": "json_schema", "json_schema": {"name": "response", "schema": SCHEMA}}},
        ),
        ({"prompt": "a", "guided_json": SCHEMA}, {"guided_json": SCHEMA}),
        ({"prompt": "a", "stream": True}, {"stream": True, "stream_options": {"include_usage": True}}),
        ({"prompt": "a", "stream": False, "top_k": 5}, {"stream": False, "top_k": 5}),
    ],
    ids=str,
)
def test_what_a_request_stands_for(body, chat):
    expected = {"messages": [USER], "model": MODEL, "max_tokens": 256} | chat
    assert chat_of(body, MODEL) == expected
    if len(chat.get("tools", ())) < 2:
        ChatRequest.model_validate(expected)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": "a", "messages": [USER]}, "prompt"),
        ({"messages": [USER], "raw": True}, "raw"),
        ({"prompt": "a", "n": 1}, "n"),
        ({"prompt": "a", "model": "b"}, "model"),
        ({"prompt": "a", "functions": [FUNCTION | {"code": "1"}]}, "functions[0].code"),
        ({"prompt": "a", "functions": [FUNCTION], "tools": [TOOL]}, "functions"),
    ],
    ids=str,
)
def test_what_has_no_place(body, param):
    with pytest.raises(InvalidRequest) as caught:
        chat_of(body, MODEL)
    assert caught.value.param == param


def completion(**message: object) -> dict:
    return {"choices": [{"index": 0, "message": message}], "usage": USAGE}


def test_an_answer_in_other_words():
    told = result_of(completion(content="hello"), as_json=False)
    assert told == {"response": "hello", "tool_calls": [], "usage": USAGE}
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    told = result_of(completion(content=None, tool_calls=[call]), as_json=False)
    assert told == {
        "response": None,
        "tool_calls": [{"id": "1", "name": "f", "arguments": {"a": 1}}],
        "usage": USAGE,
    }


@pytest.mark.parametrize(
    ("text", "told"), [('{"a": [1]}', {"a": [1]}), ('{"a"', '{"a"'), ("5", 5), ("", ""), (None, None)]
)
def test_a_document_is_one_if_it_is_whole(text, told):
    assert result_of(completion(content=text), as_json=True)["response"] == told
    assert result_of(completion(content=text), as_json=False)["response"] == text


@pytest.mark.parametrize(
    ("chat", "is_one"),
    [
        ({}, False),
        ({"guided_json": {}}, True),
        ({"response_format": {"type": "text"}}, False),
        ({"response_format": {"type": "json_object"}}, True),
        ({"response_format": None, "regex": "[0-9]"}, False),
    ],
    ids=str,
)
def test_which_answers_are_documents(chat, is_one):
    assert wants_json(chat) == is_one


def chunk(delta: dict | None = None, usage: object = None) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}]
    return json.dumps({"id": "x", "choices": choices, "usage": usage}).encode()


def test_a_stream_in_other_words():
    said = NativeChunks()
    assert said(chunk({"role": "assistant", "content": ""})) == []
    assert [*map(json.loads, said(chunk({"content": "a"})))] == [{"response": "a"}]
    begin = {"index": 0, "id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a"'}}
    assert said(chunk({"tool_calls": [begin]})) == []
    assert said(chunk({"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]})) == []
    assert [*map(json.loads, said(chunk(usage=USAGE)))] == [
        {"response": "", "tool_calls": [{"id": "1", "name": "f", "arguments": {"a": 1}}]},
        {"response": "", "usage": USAGE},
    ]
