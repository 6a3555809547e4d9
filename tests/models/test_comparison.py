"""Two answers are compared as a reader would: closely or less so, told where they part, and how far they are apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.comparison import (
    EXCERPT_CHARACTERS,
    MEASURED_CHARACTERS,
    Difference,
    Mode,
    diff,
    first_difference,
    same_calls,
    similarity,
    written,
)

EXACT, TEXT, JSON, TOOLS = Mode.EXACT, Mode.TEXT, Mode.JSON, Mode.TOOLS


def text(content):
    return {"role": "assistant", "content": content}


def calling(*calls, content=None, number=1):
    made = [
        {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for name, arguments in calls
    ]
    return {"role": "assistant", "content": content, "tool_calls": made}


@pytest.mark.parametrize(
    ("recorded", "replayed"),
    [
        (text("hi"), text("hi")),
        (text(""), text(None)),
        (text("hi"), {"role": "assistant", "content": "hi", "refusal": None}),
        (calling(("f", "{}")), calling(("f", "{}"), number=2)),
        (calling(("f", "{}"), content=""), calling(("f", "{}"))),
        (text("hi") | {"tool_calls": []}, text("hi")),
    ],
)
def test_answers_that_read_the_same_are_the_same(recorded, replayed):
    assert [first_difference([recorded], [replayed], mode) for mode in Mode] == [None] * len(Mode)


@pytest.mark.parametrize(
    ("recorded", "replayed", "position"),
    [
        (text("hi there"), text("hi here"), 3),
        (text("hi"), text("hi there"), 2),
        (text("hi there"), text("hi"), 2),
        (text(""), text("hi"), 0),
        (text("hi "), text("hi"), 2),
        (calling(("f", '{"a":1}')), calling(("f", '{"a":2}')), 14),
        (calling(("f", "{}")), calling(("f", "{}"), ("g", "{}")), 11),
        (calling(("f", "{}"), ("g", "{}")), calling(("g", "{}"), ("f", "{}")), 3),
        (calling(("f", "{}"), content="well"), calling(("f", "{}")), 0),
        (text('[["f","{}"]]'), calling(("f", "{}")), 0),
        (calling(("f", "{}"), content="well"), calling(("g", "{}"), content="well"), 7),
    ],
)
def test_answers_that_do_not_are_told_where_they_part(recorded, replayed, position):
    found = first_difference([recorded], [replayed], EXACT)
    assert (found.choice, found.position) == (0, position)


@pytest.mark.parametrize(
    ("recorded", "replayed", "same"),
    [
        (text("a  b\n"), text(" a b"), {TEXT, JSON, TOOLS}),
        (text('{"a": 1, "b": 2}'), text('{"b":2,"a":1}'), {JSON, TOOLS}),
        (text('{"a": 1}'), text('{"a": 2}'), {TOOLS}),
        (text("null"), text("null "), {TEXT, JSON, TOOLS}),
        (text('{"a": 1}'), text("no JSON"), {TOOLS}),
        (calling(("f", '{"a": 1}')), calling(("f", '{"a":1}')), {TEXT, JSON, TOOLS}),
        (calling(("f", '{"a": 1}')), calling(("f", '{"a":2}')), set()),
        (calling(("f", "{}")), calling(("g", "{}")), set()),
        (calling(("f", "no JSON")), calling(("f", "no  JSON")), set()),
        (calling(("f", "{}"), content="well"), calling(("f", "{}"), content="so"), {TOOLS}),
        (text("a"), calling(("f", "{}"), content="a"), set()),
    ],
)
def test_a_mode_overlooks_what_it_does_not_look_at(recorded, replayed, same):
    assert {mode for mode in Mode if first_difference([recorded], [replayed], mode) is None} == same


def test_every_choice_is_looked_at():
    found = first_difference([text("a"), text("b")], [text("a"), text("c")], EXACT)
    assert found == Difference(1, 0, "b", "c")
    assert first_difference([text("a"), text("b")], [text("a")], EXACT) == Difference(1, 0, "b", "")


def test_both_texts_are_shown_around_the_place_where_they_part():
    before, after = "a" * 100 + "b" + "c" * 100, "a" * 100 + "d"
    found = first_difference([text(before)], [text(after)], EXACT)
    near = "a" * EXCERPT_CHARACTERS
    assert found.recorded == near + "b" + "c" * (EXCERPT_CHARACTERS - 1)
    assert found.replayed == near + "d"


@given(st.text(), st.text())
def test_two_texts_part_where_their_common_beginning_ends(one, other):
    found = first_difference([text(one)], [text(other)], EXACT)
    if found is None:
        assert one == other
        return
    assert one[: found.position] == other[: found.position]
    assert one[found.position : found.position + 1] != other[found.position : found.position + 1]
    back = min(found.position, EXCERPT_CHARACTERS)
    assert one[found.position - back :].startswith(found.recorded)
    assert other[found.position - back :].startswith(found.replayed)


def test_calls_are_equal_by_value_or_there_are_none():
    assert same_calls([text("a")], [text("b")]) is None
    assert same_calls([calling(("f", '{"a": 1}'))], [calling(("f", '{"a":1}'))]) is True
    assert same_calls([calling(("f", "{}"))], [text("a")]) is False


def test_similarity_is_the_share_that_stays():
    assert similarity([text("abcd")], [text("abcd")]) == 1
    assert similarity([text("abcd")], [text("efgh")]) == 0
    assert similarity([text("abcd")], [text("abef")]) == 0.5
    long = "a" * MEASURED_CHARACTERS
    assert similarity([text(long + "b")], [text(long + "c")]) == 1, "what lies behind the limit is not measured"


def test_a_diff_goes_word_by_word():
    assert diff(text("the red car "), text("the blue car ")) == [
        {"op": "same", "text": "the "},
        {"op": "removed", "text": "red "},
        {"op": "added", "text": "blue "},
        {"op": "same", "text": "car "},
    ]
    assert diff(text("a"), calling(("f", "{}"))) == [
        {"op": "removed", "text": "a"},
        {"op": "added", "text": '[["f","{}"]]'},
    ]


@given(st.text("ab \n", max_size=40), st.text("ab \n", max_size=40))
def test_a_diff_holds_both_texts(one, other):
    parts = diff(text(one), text(other))
    assert "".join(part["text"] for part in parts if part["op"] != "added") == one
    assert "".join(part["text"] for part in parts if part["op"] != "removed") == other
    assert written(text(one)) == one
