"""Do the chat templates beside the cards write conversations as their models were taught to read them?

The referee is mistral-common's V7 layout, written out by hand.
"""

import json
from importlib.resources import files

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from models.cards.card import catalogue

CARDS = [card for card in catalogue().values() if card.chat_template]
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "Wetter", "parameters": {"type": "object"}, "strict": None},
    "defer_loading": None,
}
TOOLS = (
    '[AVAILABLE_TOOLS][{"type": "function", "function": {"name": "weather", "description": "Wetter", '
    '"parameters": {"type": "object"}}}][/AVAILABLE_TOOLS]'
)
HELLO = {"role": "user", "content": "Grüße"}


def call(identity, city):
    return {"id": identity, "type": "function", "function": {"name": "weather", "arguments": {"city": city}}}


@pytest.fixture(params=sorted({card.chat_template for card in CARDS}))
def render(request):
    """As transformers compiles a template, and as SGLang reads its file."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    text = (files("models.cards") / request.param).read_text(encoding="utf-8").strip("\n")
    template = environment.from_string(text.replace("\\n", "\n"))
    return lambda messages, **more: template.render(
        messages=messages, bos_token="<s>", eos_token="</s>", add_generation_prompt=True, **more
    )


def test_each_template_is_one_of_a_cards():
    there = {entry.name for entry in files("models.cards").iterdir() if entry.name.endswith(".jinja")}
    assert there == {card.chat_template for card in CARDS}


def test_a_conversation(render):
    messages = [
        {"role": "system", "content": "Sei kurz."},
        HELLO,
        {"role": "assistant", "content": "Hallo."},
        {"role": "user", "content": "Und?"},
    ]
    assert render(messages) == (
        "<s>[SYSTEM_PROMPT]Sei kurz.[/SYSTEM_PROMPT][INST]Grüße[/INST]Hallo.</s>[INST]Und?[/INST]"
    )


def test_nothing_is_added_where_no_system_prompt_is_given(render):
    assert render([HELLO]) == "<s>[INST]Grüße[/INST]"
    assert render([HELLO], tools=None) == render([HELLO], tools=[]) == render([HELLO])


def test_tools_stand_before_the_last_question(render):
    messages = [HELLO, {"role": "assistant", "content": "Hallo."}, {"role": "user", "content": "Wetter?"}]
    assert render(messages, tools=[WEATHER]) == f"<s>[INST]Grüße[/INST]Hallo.</s>{TOOLS}[INST]Wetter?[/INST]"


def test_calls_and_their_results(render):
    messages = [
        HELLO,
        {"role": "assistant", "tool_calls": [call("call_0123456789abcdef", "Köln"), call("b12345678", "Bonn")]},
        {"role": "tool", "tool_call_id": "call_0123456789abcdef", "content": '{"°C": 7}'},
        {"role": "tool", "tool_call_id": "b12345678", "content": "8"},
    ]
    assert render(messages, tools=[WEATHER]) == (
        f"<s>{TOOLS}[INST]Grüße[/INST]"
        '[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Köln"}, "id": "789abcdef"}, '
        '{"name": "weather", "arguments": {"city": "Bonn"}, "id": "b12345678"}]</s>'
        '[TOOL_RESULTS]789abcdef[TOOL_CONTENT]{"°C": 7}[/TOOL_RESULTS]'
        "[TOOL_RESULTS]b12345678[TOOL_CONTENT]8[/TOOL_RESULTS]"
    )


def test_an_answer_may_speak_and_call(render):
    messages = [HELLO, {"role": "assistant", "content": "Moment. ", "tool_calls": [call("b12345678", "Bonn")]}]
    assert render(messages).endswith(
        'Moment. [TOOL_CALLS][{"name": "weather", "arguments": {"city": "Bonn"}, "id": "b12345678"}]</s>'
    )


def test_parts_and_images_keep_their_order(render):
    """SGLang has put `image` for `image_url` by then."""
    parts = [{"type": "text", "text": "Was ist "}, {"type": "image"}, {"type": "text", "text": " hier?"}]
    assert render([{"role": "user", "content": parts}]) == "<s>[INST]Was ist [IMG] hier?[/INST]"
    assert render([{"role": "system", "content": parts[:1]}, HELLO]) == (
        "<s>[SYSTEM_PROMPT]Was ist [/SYSTEM_PROMPT][INST]Grüße[/INST]"
    )


def test_a_longer_conversation_begins_as_the_shorter_one_did(render):
    """Cached prefixes depend on it; where tools are offered it holds up to the last question."""
    first = [HELLO, {"role": "assistant", "content": "Hallo."}]
    assert render([*first, HELLO]).startswith(render(first))
    asked = [HELLO, {"role": "assistant", "tool_calls": [call("b12345678", "Bonn")]}]
    answered = [*asked, {"role": "tool", "tool_call_id": "b12345678", "content": "8"}]
    assert render(answered, tools=[WEATHER]).startswith(render(asked, tools=[WEATHER]))
