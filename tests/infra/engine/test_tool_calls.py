"""The calls that the engine lets slip into the text are calls again, wherever the stream is cut; text that is text stays."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.engine.tool_calls import ToolCallMender
from models.wire.stream import Answer

FIRST = ("weather", '{"city": "Köln"}')
SECOND = ("time", {"zone": "CET", "list": [1, {"a": "]}"}]})
THIRD = ("news", {})


def piece(index=0, finish=None, **delta):
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}


def begun(index=0, number=0, call=FIRST):
    """The first call, which the engine reads well: its name, then its arguments in two fragments."""
    name, arguments = call
    head = {
        "id": f"call_{index}_{number}",
        "index": number,
        "type": "function",
        "function": {"name": name, "arguments": ""},
    }
    rest = [
        {"index": number, "type": "function", "function": {"arguments": part}}
        for part in (arguments[:3], arguments[3:])
    ]
    return [piece(index, tool_calls=[fragment]) for fragment in (head, *rest)]


def slipped(*calls, key="arguments"):
    """What the engine lets through as text behind the first call."""
    return (
        "".join(", " + json.dumps({"name": name, key: arguments}, ensure_ascii=False) for name, arguments in calls)
        + "]"
    )


def sent(*pieces, parallel=True):
    """What a client is told, added up, and whether a fragment of it was text."""
    mender, answer, texts = ToolCallMender(parallel=parallel), Answer(), []
    for choice in copy.deepcopy(pieces):
        mended = mender.mend([choice])
        answer.add(mended)
        texts += [each["delta"]["content"] for each in mended if each["delta"].get("content")]
    return answer.choices(), texts


def calls_of(choice):
    return [
        (call["function"]["name"], json.loads(call["function"]["arguments"]))
        for call in choice["message"]["tool_calls"]
    ]


ALL = [(FIRST[0], json.loads(FIRST[1])), SECOND, THIRD]
TAIL = slipped(SECOND, THIRD)


@pytest.mark.parametrize("place", range(len(TAIL) + 1))
def test_a_second_and_third_call_are_found_wherever_the_text_is_cut(place):
    (choice,), texts = sent(
        *begun(), piece(content=TAIL[:place]), piece(content=TAIL[place:]), piece(finish="tool_calls")
    )
    assert calls_of(choice) == ALL
    assert texts == []
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None


@settings(deadline=None)
@given(st.lists(st.integers(0, len(TAIL)), max_size=12).map(sorted), st.booleans())
def test_calls_are_found_in_any_number_of_pieces_also_in_the_last_chunk(places, with_finish):
    parts = [TAIL[start:stop] for start, stop in zip([0, *places], [*places, len(TAIL)], strict=True)]
    pieces = [piece(content=part) for part in parts]
    pieces[-1:] = (
        [piece(finish="tool_calls", content=parts[-1])] if with_finish else [pieces[-1], piece(finish="tool_calls")]
    )
    (choice,), texts = sent(*begun(), *pieces)
    assert calls_of(choice) == ALL
    assert texts == []


def test_a_call_is_sent_as_soon_as_it_is_whole():
    mender = ToolCallMender()
    for choice in begun():
        assert mender.mend([copy.deepcopy(choice)]) == [choice]
    assert mender.mend([piece(content=slipped(SECOND)[:-2])]) == []
    (found,) = mender.mend([piece(content="}")])
    assert found["delta"]["tool_calls"][0]["function"] == {"name": SECOND[0], "arguments": json.dumps(SECOND[1])}


def test_every_call_has_an_id_and_a_number_of_its_own():
    (choice,), _ = sent(*begun(), piece(content=TAIL), piece(finish="tool_calls"))
    calls = choice["message"]["tool_calls"]
    assert len({call["id"] for call in calls}) == 3
    assert all(call["id"].startswith("call_") and call["type"] == "function" for call in calls)
    mender, numbers = ToolCallMender(), []
    for each in [*begun(), *begun(number=1), piece(content=slipped(THIRD))]:
        numbers += [call["index"] for choice in mender.mend([each]) for call in choice["delta"].get("tool_calls", [])]
    assert numbers == [0, 0, 0, 1, 1, 1, 2]


def test_the_other_name_for_arguments_is_known_and_none_is_empty():
    (choice,), _ = sent(*begun(), piece(content=slipped(SECOND, key="parameters")), piece(finish="tool_calls"))
    assert calls_of(choice)[1] == SECOND
    (choice,), _ = sent(*begun(), piece(content=', {"name": "f"}]'), piece(finish="tool_calls"))
    assert calls_of(choice)[1] == ("f", {})


def test_each_choice_is_mended_by_itself():
    mixed = [each for pair in zip(begun(0), begun(1, call=("other", "{}")), strict=True) for each in pair]
    tail = slipped(SECOND)
    pieces = [
        piece(0, content=tail[:9]),
        piece(1, content=slipped(THIRD)),
        piece(2, content="plain"),
        piece(0, content=tail[9:]),
    ]
    ends = [piece(number, "tool_calls" if number < 2 else "stop") for number in range(3)]
    choices, texts = sent(*mixed, *pieces, *ends)
    assert calls_of(choices[0]) == [ALL[0], SECOND]
    assert calls_of(choices[1]) == [("other", {}), THIRD]
    assert (choices[2]["message"]["content"], texts) == ("plain", ["plain"])


def test_several_choices_of_one_chunk_are_all_answered():
    mender = ToolCallMender()
    mender.mend(begun()[:1])
    mended = mender.mend([piece(0, content=slipped(SECOND)), piece(1, content="plain")])
    assert [choice["index"] for choice in mended] == [0, 1]


@pytest.mark.parametrize("text", ["hello", '[{"name": "f", "arguments": {}}]', "", "1, 2, 3"])
def test_an_answer_that_calls_nothing_passes_unchanged(text):
    pieces = [piece(role="assistant", content=""), piece(content=text), piece(finish="stop")]
    mender = ToolCallMender()
    assert [mender.mend([copy.deepcopy(each)]) for each in pieces] == [[each] for each in pieces]


@pytest.mark.parametrize(
    "text",
    [
        "And that is all.",
        "  indented,\n\nand more ",
        ', {"name": "f", "arguments": {',
        '{"name": 5}',
        "{}",
        "12",
        '"a string"',
        "[1, 2]",
        'Then {"name": "f", "arguments": {}} as text',
    ],
)
def test_text_behind_a_call_that_is_none_is_let_go_unchanged_at_the_end(text):
    (choice,), texts = sent(*begun(), piece(content=text[:4]), piece(content=text[4:]), piece(finish="stop"))
    assert texts == [text]
    assert calls_of(choice) == ALL[:1]


@pytest.mark.parametrize("rest", ["]", "]\n", " ] ", ""])
def test_what_is_left_of_the_list_is_not_text(rest):
    (choice,), texts = sent(*begun(), piece(content=slipped(SECOND)[:-1] + rest), piece(finish="tool_calls"))
    assert texts == []
    assert len(calls_of(choice)) == 2


def test_text_before_the_first_call_is_text():
    (choice,), texts = sent(
        piece(role="assistant", content="Let me see."), *begun(), piece(content=TAIL), piece(finish="tool_calls")
    )
    assert texts == ["Let me see."]
    assert calls_of(choice) == ALL


def test_a_list_that_was_cut_short_keeps_the_calls_that_are_whole():
    """The token limit came before the end: what is whole is a call, the rest is what the model said."""
    (choice,), texts = sent(*begun(), piece(content=TAIL[: TAIL.index("news") + 2]), piece(finish="length"))
    assert calls_of(choice) == ALL[:2]
    assert choice["finish_reason"] == "length"
    assert texts == [', {"name": "ne']


@pytest.mark.parametrize("second", [[piece(content=TAIL)], begun(number=1)], ids=["as text", "as a call"])
def test_where_one_call_was_wished_for_no_second_comes_through(second):
    (choice,), texts = sent(*begun(), *second, piece(finish="tool_calls"), parallel=False)
    assert calls_of(choice) == ALL[:1]
    assert (choice["finish_reason"], texts) == ("tool_calls", [])


def test_where_one_call_was_wished_for_all_else_comes_through():
    last = [{"index": 1, "type": "function", "function": {"arguments": "{}"}}]
    pieces = [
        piece(content="Let me see."),
        *begun(),
        piece(tool_calls=last, finish="tool_calls"),
        piece(1, content="a"),
    ]
    choices, texts = sent(*pieces, piece(1, finish="stop"), parallel=False)
    assert texts == ["Let me see.", "a"]
    assert calls_of(choices[0]) == ALL[:1]
    assert [choice["finish_reason"] for choice in choices] == ["tool_calls", "stop"]
