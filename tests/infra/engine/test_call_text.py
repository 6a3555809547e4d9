"""Is the same read of a text wherever it is cut, nothing of it lost, and nothing held back that is certain?"""

import json
import re
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.engine.call_text import MARKER, CallText

WEATHER = ("get_weather", {"location": "Köln"})
TIME = ("time", {"zone": 'C"E\\T', "list": [1, {"a": "]}", "b": None}], "text": "[TOOL_CALLS][{"})
NEWS = ("news-2.x", {})
ALL = [WEATHER, TIME, NEWS]


def one(call, key="arguments", **more):
    return json.dumps({"name": call[0], key: call[1], **more}, ensure_ascii=False)


def listed(*calls, separator=", ", **how):
    return f"[{separator.join(one(call, **how) for call in calls)}]"


def compact(*calls, call_id=""):
    return "".join(f"{MARKER}{name}{call_id}[ARGS]{json.dumps(arguments)}" for name, arguments in calls)


def backwards(*calls):
    return json.dumps([{"id": "abcdef123", "arguments": arguments, "name": name} for name, arguments in calls])


READ = {
    "as the 24B writes": (MARKER + listed(*ALL), "", ALL),
    "with a space": (f"{MARKER} {listed(*ALL)}", "", ALL),
    "on lines": (f"{MARKER}\n[\n  {one(WEATHER)},\n  {one(NEWS)}\n]\n", "", [WEATHER, NEWS]),
    "as parameters": (MARKER + listed(*ALL, key="parameters"), "", ALL),
    "with ids": (MARKER + listed(*ALL, id="abcdef123"), "", ALL),
    "arguments first": (MARKER + backwards(*ALL), "", ALL),
    "without arguments": (f'{MARKER}[{{"name": "f"}}]', "", [("f", {})]),
    "several lists": (MARKER + listed(WEATHER) + MARKER + listed(TIME, NEWS), "", ALL),
    "compact": (compact(*ALL), "", ALL),
    "compact with ids": (compact(*ALL, call_id="[CALL_ID]abcdef123"), "", ALL),
    "both": (compact(WEATHER) + MARKER + listed(TIME, NEWS), "", ALL),
    "text before": (f"Let me [see].\n{MARKER}{listed(WEATHER)}", "Let me [see].\n", [WEATHER]),
    "text behind": (f"{MARKER}{listed(WEATHER)}\n\nAnd that is all.", "\n\nAnd that is all.", [WEATHER]),
}
PLAIN = [
    "",
    " ",
    "no call at all",
    "[TOOL_CALL]",
    "[TOOL_CALLS",
    "[[TOOL_CALL [TOOL_RESULTS]",
    listed(WEATHER),
    MARKER,
    f"{MARKER} ",
    f"{MARKER}[",
    f"{MARKER}[]",
    f"{MARKER} [ , ]",
    f"{MARKER} none is needed.",
    f"{MARKER}[1, 2]",
    f'{MARKER}["a string"]',
    f"{MARKER}[{{}}]",
    f'{MARKER}[{{"name": 5, "arguments": {{}}}}]',
    f'{MARKER}[{{"name": "", "arguments": {{}}}}]',
    f'{MARKER}[{{"name": "f", "arguments": nonsense}}]',
    f'{MARKER}[{{"name": "f", "arguments"}}]',
    f'{MARKER}[{{"name": "f\\x", "arguments": {{}}}}]',
    f'{MARKER}[{{"name": "f", "more": [1}}]',
    f'{MARKER}[{{"name": "f", "argum',
    f'{MARKER}[{{"arguments": {{"a": 1}}}}]',
    f'{MARKER}[{{"deep": {"[" * 5000}{"]" * 5000}}}]',
    f"{MARKER}f[ARGS]",
    f"{MARKER}f[ARGS]nothing",
    f"{MARKER}f[CALL_ID]abc",
    f"{MARKER}[ARGS]{{}}",
    f"{MARKER}f[RESULT]{{}}",
]


def read(*pieces, text=None):
    """All that is told of a text that comes in pieces: what is said, and the calls."""
    text = text or CallText()
    said, calls = "", {}
    for number, piece in enumerate(pieces, 1):
        told, fragments = text.feed(piece, last=number == len(pieces))
        said += told
        for fragment in fragments:
            if "id" in fragment:
                assert fragment["index"] == len(calls)
                assert fragment["type"] == "function"
                calls[fragment["index"]] = {"name": fragment["function"]["name"], "arguments": ""}
            calls[fragment["index"]]["arguments"] += fragment["function"]["arguments"]
    return said, [(call["name"], json.loads(call["arguments"])) for call in calls.values()]


def cut(text, places):
    return [text[start:stop] for start, stop in pairwise([0, *sorted(places), len(text)])]


@pytest.mark.parametrize("name", READ)
def test_every_layout_is_read_whole_and_wherever_it_is_cut_in_two(name):
    text, said, calls = READ[name]
    assert read(text) == (said, calls)
    for place in range(len(text)):
        assert read(text[:place], text[place:]) == (said, calls), text[:place]


@settings(deadline=None)
@given(st.sampled_from(sorted(READ)).flatmap(lambda name: st.tuples(st.just(name), st.sets(st.integers(0, 60)))))
def test_every_layout_is_read_in_any_pieces(drawn):
    (text, said, calls), places = READ[drawn[0]], [place * len(READ[drawn[0]][0]) // 60 for place in drawn[1]]
    assert read(*cut(text, places)) == (said, calls)


@pytest.mark.parametrize("text", PLAIN, ids=lambda text: text[:40])
def test_what_is_no_call_is_text_to_the_last_character(text):
    for pieces in ([text], list(text), *([text[:place], text[place:]] for place in range(min(len(text), 100)))):
        assert read(*pieces) == (text, [])


@settings(deadline=None, max_examples=500)
@given(
    st.text(alphabet='[]{}",: \\TfARGS1')
    | st.lists(
        st.sampled_from([MARKER, "[", "{", '"name": "f"', ",", "}", "]", "[ARGS]", '"arguments": {}', "a", " "])
    ).map("".join),
    st.data(),
)
def test_whatever_a_model_says_the_cuts_change_nothing(text, data):
    places = data.draw(st.sets(st.integers(0, len(text))))
    assert raw(*cut(text, places)) == raw(text)


@given(st.text(alphabet='[]{}",: \\TfARGS1'))
def test_without_a_marker_all_is_text(text):
    assert raw(*text, "") == (text, [])


def raw(*pieces):
    text, said, arguments = CallText(), "", {}
    for number, piece in enumerate(pieces, 1):
        told, fragments = text.feed(piece, last=number == len(pieces))
        said += told
        for fragment in fragments:
            arguments.setdefault(fragment["index"], []).append(fragment["function"]["arguments"])
    return said, ["".join(parts) for parts in arguments.values()]


def test_a_call_is_told_with_its_arguments_first_character_and_these_as_they_come():
    text = CallText()
    assert text.feed("Well. [TOOL", last=False) == ("Well. ", [])
    assert text.feed('_CALLS][{"name": "get_weather", "arguments": ', last=False) == ("", [])
    said, (head,) = text.feed("{", last=False)
    assert (said, head["function"]) == ("", {"name": "get_weather", "arguments": "{"})
    assert re.fullmatch(r"call_[0-9a-f]{24}", head["id"])
    assert text.feed('"location": "Kö', last=False)[1] == [
        {"index": 0, "function": {"arguments": '"location": "Kö'}},
    ]
    said, (rest, second) = text.feed('ln"}}, {"name": "f", "arguments": {}', last=False)
    assert rest == {"index": 0, "function": {"arguments": 'ln"}'}}
    assert (second["index"], second["function"]) == (1, {"name": "f", "arguments": "{}"})
    assert second["id"] != head["id"]


def test_plain_text_is_not_held_back():
    text = CallText()
    assert [text.feed(piece, last=False)[0] for piece in ("a [", "1] and [TOOL", "S] b", "[", "c")] == [
        *("a ", "[1] and ", "[TOOLS] b", "", "[c"),
    ]


def test_plain_is_what_needs_no_reading():
    text = CallText()
    assert text.is_plain
    text.feed("a [", last=False)
    assert not text.is_plain
    text.feed("1]", last=False)
    assert text.is_plain
    text.feed(f"{MARKER}{listed(WEATHER)}", last=False)
    assert not text.is_plain
    text.feed(" b", last=False)
    assert text.is_plain
    assert not CallText(bare=True).is_plain


@pytest.mark.parametrize("place", range(40))
def test_arguments_that_are_cut_short_are_sent_as_far_as_they_go(place):
    """The token limit came before the end."""
    whole = f"{MARKER}{listed(WEATHER)}"
    begun = whole.index('{"location')
    text = CallText()
    said, fragments = text.feed(whole[: begun + place], last=True)
    arguments = whole[begun : begun + place][: len(json.dumps(WEATHER[1], ensure_ascii=False))]
    if place == 0:
        assert (said, fragments) == (whole[:begun], [])
    else:
        assert said == ""
        assert fragments[0]["function"] == {"name": "get_weather", "arguments": arguments}


@pytest.mark.parametrize("rest", [" and so on", "} and so on", ', {"name": 5}]', ", more]", '], {"name": "f"}'])
def test_what_spoils_a_list_spoils_no_call_before_it(rest):
    said, calls = read(f"{MARKER}[{one(WEATHER)}{rest}")
    assert calls == [WEATHER]
    assert said == rest.removeprefix("]")


@pytest.mark.parametrize(
    "text", [listed(*ALL, key="parameters"), f" \n{listed(*ALL)}", MARKER + listed(*ALL), compact(*ALL)]
)
def test_bare_is_the_list_itself_or_any_other_layout(text):
    for place in range(len(text)):
        _, calls = read(text[:place], text[place:], text=CallText(bare=True))
        assert calls == ALL


@pytest.mark.parametrize("text", ["Paris [1]", "[1, 2]", "[]", '{"name": "f"}', "[x", "["])
def test_bare_text_that_is_no_list_is_text(text):
    for place in range(len(text)):
        assert read(text[:place], text[place:], text=CallText(bare=True)) == (text, [])


@pytest.mark.parametrize("hostile", ['{"a": ' * 5000, MARKER * 3000, f'{MARKER}[{{"a": "' * 3000, "[TOOL_" * 8000])
def test_no_text_takes_long(hostile):
    began = time.process_time()
    read(*[hostile[at : at + 4] for at in range(0, len(hostile), 4)])
    read(*[(MARKER + "[" + hostile)[at : at + 4] for at in range(0, len(hostile), 4)])
    assert time.process_time() - began < 5
