"""Do clients get the calls that a model writes the way the 24B does, which no model that runs here does?"""

import json
from collections.abc import Iterator
from urllib.parse import quote

import openai
import pytest

from tests.flow.stack import Stack, said

PLACE = {"type": "object", "properties": {"location": {"type": "string"}}}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": PLACE}}]
CITIES = ["Paris", "Köln am Rhein"]
LISTED = json.dumps([{"name": "get_weather", "arguments": {"location": city}} for city in CITIES], ensure_ascii=False)
COMPACT = "".join(f'[TOOL_CALLS]get_weather[ARGS]{{"location": "{city}"}}' for city in CITIES)


@pytest.fixture
def client(faulty: Stack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{faulty.url}/v1", api_key=faulty.key, max_retries=0) as made:
        yield made


@pytest.fixture(params=["whole", "streamed"])
def choice_of(request: pytest.FixtureRequest, client: openai.OpenAI):
    """The one choice of an answer in which the model writes this text."""

    def whole(text, **fields):
        asked = said(f"!raw={quote(text)}")
        return client.chat.completions.create(model="tiny", messages=asked, tools=TOOLS, **fields).choices[0]

    def streamed(text, **fields):
        asked = said(f"!raw={quote(text)}")
        with client.chat.completions.stream(model="tiny", messages=asked, tools=TOOLS, **fields) as stream:
            return stream.get_final_completion().choices[0]

    return whole if request.param == "whole" else streamed


def calls_of(choice):
    calls = choice.message.tool_calls or []
    return [(call.function.name, json.loads(call.function.arguments)) for call in calls]


@pytest.mark.parametrize(
    "text", [f"[TOOL_CALLS]{LISTED}", f"[TOOL_CALLS] {LISTED}", COMPACT], ids=lambda text: text[:24]
)
@pytest.mark.parametrize("before", ["", "Let me see [1]. "])
def test_calls_in_every_layout(choice_of, before, text):
    choice = choice_of(before + text)
    assert calls_of(choice) == [("get_weather", {"location": city}) for city in CITIES]
    assert (choice.message.content or "", choice.finish_reason) == (before, "tool_calls")


def test_a_list_without_a_marker_where_a_call_is_required(choice_of):
    assert len(calls_of(choice_of(LISTED, tool_choice="required"))) == len(CITIES)
    assert choice_of(LISTED).message.content == LISTED


def test_one_call_where_one_is_wished_for(choice_of):
    assert len(calls_of(choice_of(f"[TOOL_CALLS]{LISTED}", parallel_tool_calls=False))) == 1


@pytest.mark.parametrize("text", ['[TOOL_CALLS][{"name": ', "[TOOL_CALLS] is what it is called", "[TOOL"])
def test_what_is_no_call_is_text(choice_of, text):
    choice = choice_of(text)
    assert (choice.message.content, calls_of(choice), choice.finish_reason) == (text, [], "stop")


def test_the_pieces_of_a_call_are_those_that_openai_would_send(client: openai.OpenAI):
    asked = said(f"!raw={quote(f'[TOOL_CALLS]{LISTED}')}")
    chunks = [*client.chat.completions.create(model="tiny", messages=asked, tools=TOOLS, stream=True)]
    assert {len(chunk.choices) for chunk in chunks} == {1}
    deltas = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    heads = [call for call in deltas if call.id]
    assert [(call.index, call.type, call.function.name) for call in heads] == [
        (number, "function", "get_weather") for number in range(len(CITIES))
    ]
    assert all(call.function.name is None and call.type is None for call in deltas if not call.id)
    assert len(deltas) > 2 * len(CITIES), "arguments come as the model writes them"
