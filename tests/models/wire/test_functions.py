"""Functions as tools and back: what the model is shown, what the caller is told, and where the two meet again."""

import pytest

from models.prefix import chain, link
from models.transcripts import Spoken
from models.wire.chat import engine_parameters
from models.wire.functions import (
    as_function_answer,
    as_function_chunk,
    as_recorded,
    as_tool_chunk,
    as_tool_messages,
    as_tools,
    asked_for,
)

SALT = b"salt"
USER = {"role": "user", "content": "What is the weather in London?"}
FUNCTION = {"name": "get_weather", "parameters": {"type": "object"}}
CALL = {"name": "get_weather", "arguments": '{"location": "London"}'}
CALLING = {"role": "assistant", "content": None, "function_call": CALL}
RESULT = {"role": "function", "name": "get_weather", "content": "9 degrees"}
TOOL_CALL = {"id": "call_77", "type": "function", "function": CALL}


def choice(part, said, reason=None):
    return {"index": 0, part: said, "logprobs": None, "finish_reason": reason}


@pytest.mark.parametrize(
    ("asked", "choice"),
    [
        (None, None),
        ("auto", "auto"),
        ("none", "none"),
        ({"name": "get_weather"}, {"type": "function", "function": {"name": "get_weather"}}),
    ],
)
def test_the_model_is_shown_tools(asked, choice):
    seen = engine_parameters({"seed": 1, "functions": [FUNCTION], "function_call": asked})
    tools = {"tools": [{"type": "function", "function": FUNCTION}], "parallel_tool_calls": False}
    assert seen == {"seed": 1} | tools | ({"tool_choice": choice} if choice else {})


def test_who_asks_with_tools_or_none_is_asked_nothing_else():
    for body in ({"seed": 1}, {"tools": [TOOL_CALL], "parallel_tool_calls": True}):
        assert as_tools(body | {"functions": None, "function_call": None}) == body
        assert not asked_for(body)


def test_calls_and_results_find_each_other():
    told = as_tool_messages([USER, CALLING, RESULT, {**CALLING, "content": "Once more."}, {**RESULT, "content": None}])
    assert told[0] is USER
    assert told[1] == {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL | {"id": "fc0000001"}]}
    assert told[2] == {"role": "tool", "name": "get_weather", "content": "9 degrees", "tool_call_id": "fc0000001"}
    assert (told[3]["content"], told[3]["tool_calls"][0]["id"]) == ("Once more.", "fc0000003")
    assert (told[4]["content"], told[4]["tool_call_id"]) == ("", "fc0000003")
    assert all(len(message["tool_call_id"]) == 9 for message in told if message["role"] == "tool")


def test_a_result_without_a_call_has_an_id_of_its_own():
    assert as_tool_messages([USER, RESULT])[1]["tool_call_id"] == "fc0000001"


def test_messages_in_todays_words_stay_as_they_are():
    messages = [USER, {"role": "assistant", "content": "", "function_call": None}, {"role": "tool", "content": "7"}]
    assert as_tool_messages(messages) == messages


CHUNKS = [
    (choice("delta", {"role": "assistant", "content": ""}), {"role": "assistant", "content": ""}, None),
    (choice("delta", {"tool_calls": [TOOL_CALL | {"index": 0}]}), {"function_call": CALL}, None),
    (
        choice("delta", {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}),
        {"function_call": {"arguments": "{"}},
        None,
    ),
    (choice("delta", {}, "tool_calls"), {}, "function_call"),
    (choice("delta", {"content": "No."}, "stop"), {"content": "No."}, "stop"),
]


@pytest.mark.parametrize(("said", "delta", "reason"), CHUNKS)
def test_a_chunk_is_told_in_the_callers_words_and_understood_again(said, delta, reason):
    (told,) = as_function_chunk([said])
    assert told == choice("delta", delta, reason)
    (back,) = as_tool_chunk([told])
    calls = [{"index": 0, "function": call["function"]} for call in said["delta"].get("tool_calls", ())]
    assert back == said | {"delta": said["delta"] | ({"tool_calls": calls} if calls else {})}


def test_a_whole_answer_is_told_in_the_callers_words():
    said = choice("message", {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]}, "tool_calls")
    assert as_function_answer([said]) == [choice("message", CALLING, "function_call")]
    plain = choice("message", {"role": "assistant", "content": "No."}, "stop")
    assert as_function_answer([plain]) == [plain]


def test_the_next_turn_continues_the_one_that_called():
    """The answer that is recorded is the message that is sent back, hash for hash."""
    said = Spoken({"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]}, "tool_calls")
    (recorded,) = as_recorded([said], 1)
    before = chain(SALT, as_tool_messages([USER]))
    after = chain(SALT, as_tool_messages([USER, CALLING, RESULT]))
    assert link(SALT, before[-1], recorded.message) == after[1]
    text = Spoken({"role": "assistant", "content": "No."}, "stop")
    assert as_recorded([text], 1) == [text]
