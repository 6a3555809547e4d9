"""A recorded request can be asked again as it was, or changed; and a live conversation goes on behind another answer."""

import pytest

from models.replay import changes, goes_on, request_again, system_of, with_system

MESSAGES = [{"role": "user", "content": "hello"}]
SYSTEM = {"role": "system", "content": "be brief"}
RECORDED = {"temperature": 0.5, "seed": 7, "stream": True, "stream_options": {"include_usage": True}, "stop": ["x"]}


def test_a_request_is_asked_again_as_it_was_but_for_the_streaming():
    again = request_again(RECORDED, MESSAGES, "m", {})
    assert again == {"model": "m", "messages": MESSAGES, "temperature": 0.5, "seed": 7, "stop": ["x"]}
    assert "stream" in RECORDED


def test_overrides_change_add_and_take_away():
    again = request_again(RECORDED, MESSAGES, "m", {"temperature": 0, "stop": None, "top_p": 0.9, "n": None})
    assert again == {"model": "m", "messages": MESSAGES, "temperature": 0, "seed": 7, "top_p": 0.9}


def test_either_name_of_the_limit_takes_the_place_of_both():
    again = request_again({"max_tokens": 9}, MESSAGES, "m", {"max_completion_tokens": 2})
    assert again == {"model": "m", "messages": MESSAGES, "max_completion_tokens": 2}


def test_what_was_asked_and_of_whom_is_not_a_parameter():
    again = request_again({}, MESSAGES, "m", {"messages": [], "model": "other"})
    assert again == {"model": "m", "messages": MESSAGES}


@pytest.mark.parametrize("before", [MESSAGES, [SYSTEM, *MESSAGES], [SYSTEM | {"role": "developer"}, SYSTEM, *MESSAGES]])
def test_the_system_prompt_is_put_in_replaced_or_taken_away(before):
    new = {"role": "system", "content": "be long"}
    assert with_system(before, {"system": "be long"}) == [new, *MESSAGES]
    assert with_system(before, {"system": None}) == MESSAGES
    assert with_system(before, {"temperature": 1}) == before
    assert request_again({}, before, "m", {"system": "be long"})["messages"] == [new, *MESSAGES]


def test_the_systems_words_are_those_that_stand_first():
    assert system_of([SYSTEM, *MESSAGES]) == "be brief"
    assert system_of([*MESSAGES, SYSTEM]) is None
    assert system_of([]) is None


def test_only_what_was_changed_counts_as_changed():
    before, after = {"temperature": 0, "seed": 7}, {"temperature": 0, "seed": 8}
    told = changes({"temperature": 0, "seed": 8}, before, after, ("a", "a"))
    assert told == [{"parameter": "seed", "recorded": 7, "replayed": 8}]
    assert changes({}, before, after, ("a", "b")) == [{"parameter": "model", "recorded": "a", "replayed": "b"}]
    assert changes({}, before, after, None) == [], "nobody asked for another model"
    assert changes({"system": "x"}, {}, {}, ("a", "a"), ("x", "x")) == []
    assert changes({"system": None}, {}, {}, ("a", "a"), ("x", None)) == [{"parameter": "system"}]
    assert changes({"stop": "y"}, {"stop": "x"}, {"stop": "y"}, ("a", "a")) == [{"parameter": "stop"}], "no texts"


def call(number):
    return {"id": f"call_{number}", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def result(number, text="42"):
    return {"role": "tool", "tool_call_id": f"call_{number}", "content": text}


def test_a_conversation_goes_on_behind_another_answer():
    assert goes_on({"role": "assistant", "content": "hm"}, MESSAGES) == MESSAGES


def test_recorded_results_answer_the_calls_that_are_made_now():
    answer = {"role": "assistant", "content": None, "tool_calls": [call(7), call(8)]}
    assert goes_on(answer, [result(1), result(2, "43"), *MESSAGES]) == [result(7), result(8, "43"), *MESSAGES]


@pytest.mark.parametrize(
    ("answer", "added"),
    [
        (None, MESSAGES),
        ({"role": "assistant", "content": "no calls"}, [result(1)]),
        ({"role": "assistant", "tool_calls": [call(1), call(2)]}, [result(1)]),
        ({"role": "assistant", "tool_calls": [call(1)]}, MESSAGES),
    ],
)
def test_it_cannot_go_on_where_results_and_calls_do_not_belong_together(answer, added):
    assert goes_on(answer, added) is None
