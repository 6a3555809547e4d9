"""A recorded request can be asked again as it was, or changed; two answers are compared as a reader would."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.replay import EXCERPT_CHARACTERS, Comparison, Verdict, compare, request_again

MESSAGES = [{"role": "user", "content": "hello"}]
RECORDED = {"temperature": 0.5, "seed": 7, "stream": True, "stream_options": {"include_usage": True}, "stop": ["x"]}


def text(content):
    return {"role": "assistant", "content": content}


def calling(*calls, content=None, number=1):
    made = [
        {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for name, arguments in calls
    ]
    return {"role": "assistant", "content": content, "tool_calls": made}


def test_a_request_is_asked_again_as_it_was_but_for_the_streaming():
    again = request_again(RECORDED, MESSAGES, "m", {})
    assert again == {"model": "m", "messages": MESSAGES, "temperature": 0.5, "seed": 7, "stop": ["x"]}
    assert "stream" in RECORDED


def test_overrides_change_add_and_take_away():
    again = request_again(RECORDED, MESSAGES, "m", {"temperature": 0, "stop": None, "top_p": 0.9, "n": None})
    assert again == {"model": "m", "messages": MESSAGES, "temperature": 0, "seed": 7, "top_p": 0.9}


def test_what_was_asked_and_of_whom_is_not_a_parameter():
    again = request_again({}, MESSAGES, "m", {"messages": [], "model": "other"})
    assert again == {"model": "m", "messages": MESSAGES}


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
def test_answers_that_read_the_same_are_identical(recorded, replayed):
    assert compare(recorded, replayed) == Comparison(Verdict.IDENTICAL)


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
    found = compare(recorded, replayed)
    assert (found.verdict, found.position) == (Verdict.DIVERGED, position)


@pytest.mark.parametrize(("one", "other"), [(None, text("hi")), (text("hi"), None), (None, None)])
def test_what_is_not_there_cannot_be_compared(one, other):
    assert compare(one, other) == Comparison(Verdict.NOT_COMPARABLE)


def test_both_texts_are_shown_around_the_place_where_they_part():
    before, after = "a" * 100 + "b" + "c" * 100, "a" * 100 + "d"
    found = compare(text(before), text(after))
    near = "a" * EXCERPT_CHARACTERS
    assert found.recorded == near + "b" + "c" * (EXCERPT_CHARACTERS - 1)
    assert found.replayed == near + "d"


@given(st.text(), st.text())
def test_two_texts_part_where_their_common_beginning_ends(one, other):
    found = compare(text(one), text(other))
    if found.verdict is Verdict.IDENTICAL:
        assert one == other
        return
    assert one[: found.position] == other[: found.position]
    assert one[found.position : found.position + 1] != other[found.position : found.position + 1]
    back = min(found.position, EXCERPT_CHARACTERS)
    assert one[found.position - back :].startswith(found.recorded)
    assert other[found.position - back :].startswith(found.replayed)
