"""Are an answer's chunks those that OpenAI would send, whether the engine reads the calls or leaves them to us?"""

import copy
import json

import pytest

from infra.engine.tool_calls import CallReader, reader_for, shaped
from models.wire.stream import Answer

FIRST = ("weather", {"city": "Köln"})
SECOND = ("time", {"zone": "CET", "list": [1, {"a": "]}"}]})
THIRD = ("news", {})
ALL = [FIRST, SECOND, THIRD]


def piece(index=0, finish=None, logprobs=None, **delta):
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}


def listed(*calls):
    texts = (json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False) for name, arguments in calls)
    return f"[{', '.join(texts)}]"


def begun(index=0, number=0, call=FIRST):
    """A call that an engine has read itself: its name, then its arguments in two fragments."""
    name, arguments = call[0], json.dumps(call[1], ensure_ascii=False)
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


def sent(*pieces, **how):
    """What a client is told, added up, and the chunks of it."""
    reader, answer, told = CallReader(**how), Answer(), []
    for choice in copy.deepcopy(pieces):
        choices = reader.read([choice])
        assert len(choices) <= 1, "who reads choices[0] of a chunk has read it all"
        answer.add(choices)
        told += choices
    return answer.choices(), told


def calls_of(choice):
    return [
        (call["function"]["name"], json.loads(call["function"]["arguments"]))
        for call in choice["message"].get("tool_calls", [])
    ]


def texts_of(told):
    return [each["delta"]["content"] for each in told if each["delta"].get("content")]


MARKED = f"[TOOL_CALLS]{listed(*ALL)}"
TAIL = ", " + listed(SECOND, THIRD)[1:]
"""What SGLang's detector leaves in the text behind the first call."""


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("finish", ["stop", "tool_calls"])
def test_calls_in_the_text_become_calls(size, finish):
    parts = [piece(content=MARKED[at : at + size]) for at in range(0, len(MARKED), size)]
    (choice,), told = sent(piece(role="assistant", content=""), *parts, piece(finish=finish))
    assert calls_of(choice) == ALL
    assert (choice["message"]["content"], choice["finish_reason"], texts_of(told)) == (None, "tool_calls", [])
    assert told[0] == piece(role="assistant", content="")
    assert len({call["id"] for call in choice["message"]["tool_calls"]}) == 3


def test_a_chunk_that_holds_it_all_says_it_all():
    (choice,), told = sent(piece(role="assistant", content=f"Well. {MARKED}", finish="stop"))
    assert (choice["message"]["content"], calls_of(choice), choice["finish_reason"]) == ("Well. ", ALL, "tool_calls")
    assert told[0]["delta"]["role"] == "assistant"


def test_an_answer_that_was_cut_short_says_so():
    (choice,), _ = sent(piece(content=MARKED[: MARKED.index("CET")]), piece(finish="length"))
    assert choice["finish_reason"] == "length"
    assert [call["function"]["arguments"] for call in choice["message"]["tool_calls"]] == [
        '{"city": "Köln"}',
        '{"zone": "',
    ]


@pytest.mark.parametrize("text", ["The capital is Paris.", "", "[1] [2]", "[TOOL_CALLS] none", "[TOOL_CALLS"])
def test_what_is_no_call_is_said(text):
    (choice,), _ = sent(piece(role="assistant", content=""), piece(content=text), piece(finish="stop"))
    assert (choice["message"], choice["finish_reason"]) == ({"role": "assistant", "content": text}, "stop")


def test_plain_text_goes_through_untouched():
    reader = CallReader()
    for choice in (piece(role="assistant", content=""), piece(content="Paris"), piece(finish="stop")):
        (same,) = reader.read([choice])
        assert same is choice


def test_each_choice_has_its_own_calls():
    parts = [piece(index, content=MARKED[at : at + 5]) for at in range(0, len(MARKED), 5) for index in (0, 2)]
    text = [piece(1, content="no ["), piece(1, content="call")]
    choices, _ = sent(*text[:1], *parts, *text[1:], *(piece(index, finish="stop") for index in range(3)))
    assert [calls_of(choice) for choice in choices] == [ALL, [], ALL]
    assert [choice["finish_reason"] for choice in choices] == ["tool_calls", "stop", "tool_calls"]
    assert choices[1]["message"]["content"] == "no [call"


def test_no_logprobs_are_lost_with_what_is_held_back():
    size = 5
    parts = [MARKED[at : at + size] for at in range(0, len(MARKED), size)]
    tokens = [{"token": part, "logprob": 0.0, "top_logprobs": []} for part in parts]
    pieces = [piece(content=part, logprobs={"content": [token]}) for part, token in zip(parts, tokens, strict=True)]
    (choice,), _ = sent(*pieces, piece(finish="stop"))
    assert choice["logprobs"] == {"content": tokens}


@pytest.mark.parametrize("place", range(len(TAIL) + 1))
def test_the_rest_of_a_list_is_found_behind_a_call_that_the_engine_has_read(place):
    (choice,), told = sent(
        *begun(), piece(content=TAIL[:place]), piece(content=TAIL[place:]), piece(finish="tool_calls")
    )
    assert calls_of(choice) == ALL
    assert (choice["message"]["content"], choice["finish_reason"], texts_of(told)) == (None, "tool_calls", [])


def test_calls_that_the_engine_has_read_go_through():
    pieces = [piece(content="Let me see."), *begun(), *begun(number=1, call=SECOND), piece(finish="tool_calls")]
    (choice,), told = sent(*pieces)
    assert told == pieces
    assert calls_of(choice) == ALL[:2]


@pytest.mark.parametrize("rest", ["]", "]\n", " ] ", ""])
def test_what_is_left_of_the_list_is_not_text(rest):
    (choice,), told = sent(*begun(), piece(content=rest), piece(finish="tool_calls"))
    assert (texts_of(told), calls_of(choice)) == ([], ALL[:1])


@pytest.mark.parametrize(
    "text",
    [
        "And that is all.",
        "  indented,\n\nand more ",
        '{"name": 5}',
        "{}",
        "12",
        '"a string"',
        "[1, 2]",
        'So {"name": 1}',
    ],
)
def test_text_behind_a_call_that_the_engine_has_read_is_text(text):
    for place in range(len(text)):
        (choice,), _ = sent(*begun(), piece(content=text[:place]), piece(content=text[place:]), piece(finish="stop"))
        assert (choice["message"]["content"], calls_of(choice)) == (text, ALL[:1])


def test_a_list_goes_on_behind_text_and_another_call():
    pieces = [*begun(), piece(content="] so "), *begun(number=1, call=SECOND), piece(content=", " + listed(THIRD)[1:])]
    (choice,), told = sent(*pieces, piece(finish="tool_calls"))
    assert (texts_of(told), calls_of(choice)) == ([" so "], ALL)


@pytest.mark.parametrize(
    "pieces", [[piece(content=MARKED)], [*begun(), piece(content=TAIL)], [*begun(), *begun(number=1)]], ids=str
)
def test_where_one_call_was_wished_for_no_second_comes_through(pieces):
    (choice,), told = sent(*pieces, piece(finish="tool_calls"), parallel=False)
    assert calls_of(choice) == ALL[:1]
    assert (choice["finish_reason"], texts_of(told)) == ("tool_calls", [])
    assert all(each["delta"] or each["finish_reason"] for each in told)


def test_where_one_call_was_wished_for_all_else_comes_through():
    last = [{"index": 1, "type": "function", "function": {"arguments": "{}"}}]
    pieces = [piece(content="Well."), *begun(), piece(tool_calls=last, finish="tool_calls"), piece(1, content="a")]
    choices, told = sent(*pieces, piece(1, finish="stop"), parallel=False)
    assert texts_of(told) == ["Well.", "a"]
    assert calls_of(choices[0]) == ALL[:1]
    assert [choice["finish_reason"] for choice in choices] == ["tool_calls", "stop"]


TOOLS = [{"type": "function", "function": {"name": name, "parameters": {"title": name}}} for name in ("f", "g")]
STRICT = [TOOLS[0], {"type": "function", "function": TOOLS[1]["function"] | {"strict": True}}]
NAMED = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize("wanted", [{}, {"tools": []}, {"tools": TOOLS, "tool_choice": "none"}])
def test_without_tools_there_is_nothing_to_read_or_to_ask_for(wanted):
    assert reader_for(wanted) is None
    assert shaped(wanted) == {}


def test_a_list_without_a_marker_is_a_call_only_where_one_is_required():
    def calls(**wish):
        reader, answer = reader_for({"tools": TOOLS} | wish), Answer()
        assert reader is not None
        answer.add(reader.read([piece(content=listed(FIRST), finish="stop")]))
        return calls_of(answer.choices()[0])

    assert calls() == calls(tool_choice="auto") == []
    assert calls(tool_choice="required") == calls(tool_choice=NAMED) == [FIRST]


def test_the_wish_for_one_call_is_the_requests():
    reader, answer = reader_for({"tools": TOOLS, "parallel_tool_calls": False}), Answer()
    assert reader is not None
    answer.add(reader.read([piece(content=MARKED, finish="stop")]))
    assert calls_of(answer.choices()[0]) == [FIRST]


@pytest.mark.parametrize("wish", [{}, {"tool_choice": "auto"}])
def test_a_model_that_is_free_is_asked_for_nothing(wish):
    assert shaped({"tools": TOOLS} | wish) == {}


@pytest.mark.parametrize(
    ("wanted", "required"),
    [
        ({"tools": STRICT}, False),
        ({"tools": TOOLS, "tool_choice": "required"}, True),
        ({"tools": STRICT[1:], "tool_choice": NAMED}, True),
    ],
)
def test_what_is_strict_or_required_is_a_matter_of_grammar(wanted, required):
    asked = shaped(wanted)
    assert asked["tool_choice"] == "auto", "SGLang takes no grammar beside a choice of its own to enforce"
    form = asked["response_format"]["format"]
    assert (form["triggers"], form["at_least_one"]) == (["[TOOL_CALLS]"], required)
    assert [tag["begin"] for tag in form["tags"]] == ["[TOOL_CALLS][", "[TOOL_CALLS] ["]
    schemas = [tag["content"]["json_schema"] for tag in form["tags"][0]["content"]["tags"]]
    functions = [tool["function"] for tool in wanted["tools"]]
    assert schemas == [each["parameters"] if each.get("strict") else {"type": "object"} for each in functions]
