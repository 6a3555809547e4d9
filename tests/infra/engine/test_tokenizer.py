"""Does the count made at the door equal what the engine counts?

First by hand: each case says what the prompt must read like.  Then by the real engine, over every dialogue that ships and several
hundred that are made up to be awkward.
"""

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest

from infra.engine import tokenizer
from infra.engine.tokenizer import counter_for
from models.cards.card import catalogue
from models.errors import InvalidRequest
from tests.infra.engine.awkward import Awkward, user

DEMO = catalogue()["tram-demo"]
MISTRAL = catalogue()["mistral-small-24b-instruct-2501-awq"]
COUNTER = counter_for(DEMO)
DIALOGUES = Path(tokenizer.__file__).parent / "cpu" / "training" / "dialogues.jsonl"
ALL_S = 100.0
MADE_UP = 250

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}, "strict": None}}
WEATHER_SHOWN = (
    '[AVAILABLE_TOOLS][{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}, '
    '"description": null}, "defer_loading": null}][/AVAILABLE_TOOLS]'
)
CALL_SHOWN = (
    '<s>[INST]a[/INST][TOOL_CALLS] [{"name": "f", "arguments": {"x": "é", "n": 100.0}, "id": "c1"}]</s>'
    '[TOOL_RESULTS]{"content": "7", "call_id": "c1"}[/TOOL_RESULTS]'
)


def called(arguments, **more):
    return {
        "role": "assistant",
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", **arguments}}],
        **more,
    }


READS_LIKE = [
    ([user("Hi")], {}, "<s>[INST]Hi[/INST]"),
    (
        [{"role": "system", "content": "Be brief."}, user("Hi")],
        {},
        "<s>[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT][INST]Hi[/INST]",
    ),
    ([user([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])], {}, "<s>[INST]a b[/INST]"),
    ([user("a"), {"role": "assistant", "content": "b"}, user("c")], {}, "<s>[INST]a[/INST]b</s>[INST]c[/INST]"),
    ([user("a"), {"role": "assistant", "content": "b"}], {}, "<s>[INST]a[/INST][INST]b[/INST]"),
    ([user("a"), {"role": "assistant", "content": "b"}], {"continue_final_message": True}, "<s>[INST]a[/INST]b"),
    (
        [
            user("a"),
            called({"arguments": '{"x":"é",\n "n": 1e2}'}, content=None),
            {"role": "tool", "tool_call_id": "c1", "content": "7"},
        ],
        {},
        CALL_SHOWN,
    ),
    ([user("Hi")], {"tools": [WEATHER]}, f"<s>{WEATHER_SHOWN}[INST]Hi[/INST]"),
    ([user("Hi")], {"tools": [WEATHER], "tool_choice": "none"}, "<s>[INST]Hi[/INST]"),
    (
        [user("Hi")],
        {
            "tools": [{**WEATHER, "function": {"name": "other"}}, WEATHER],
            "tool_choice": {"function": {"name": "weather"}},
        },
        f"<s>{WEATHER_SHOWN}[INST]Hi[/INST]",
    ),
]


@pytest.mark.parametrize(("messages", "options", "text"), READS_LIKE, ids=range(len(READS_LIKE)))
def test_a_prompt_reads_as_the_template_says(messages, options, text):
    assert COUNTER.count(messages, **options) == COUNTER.count_text(text)
    assert COUNTER.count(messages, **options) != COUNTER.count_text(text + " and more")


@pytest.mark.parametrize("words", ["a few  words\n", "Wort's 12 [INST] x", "日本語 x 日本語 ", "x </s>"])
@pytest.mark.parametrize("counter", [COUNTER, counter_for(MISTRAL)], ids=["demo", "mistral"])
def test_a_long_text_counts_as_in_one_piece(counter, words):
    text = words * 20_000
    assert len(list(tokenizer._parts(text))) > 1
    assert counter.count_text(text) == len(counter._tokenizer.encode(text))


def test_a_text_without_a_border_stays_whole():
    assert list(tokenizer._parts("nospace" * 20_000)) == ["nospace" * 20_000]


def test_a_control_token_is_one_token():
    assert COUNTER.count_text("<s>[INST][/INST]</s>") == 4


@pytest.mark.parametrize("arguments", ["", "{", "[1]", '"x"', "null"])
def test_arguments_that_are_no_object_are_named(arguments):
    with pytest.raises(InvalidRequest) as caught:
        COUNTER.count([user("a"), called({"arguments": arguments}), user("b")])
    assert caught.value.param == "messages[1].tool_calls[0].function.arguments"


def test_a_card_has_one_counter_and_a_strangers_model_none():
    assert counter_for(DEMO) is COUNTER
    stranger = DEMO.model_copy(update={"weights": "somebody/some-model"})
    assert counter_for(stranger) is None
    assert counter_for(stranger.model_copy(update={"chat_template": "another.jinja"})) is None


def known():
    """Every beginning of every dialogue that ships."""
    for line in DIALOGUES.read_text(encoding="utf-8").splitlines():
        dialogue = json.loads(line)
        tools = {"tools": dialogue["tools"]} if dialogue.get("tools") else {}
        for end in range(1, len(dialogue["messages"]) + 1):
            yield {"messages": dialogue["messages"][:end], **tools}


@pytest.mark.engine
async def test_the_engine_counts_the_same(engine_url):
    awkward = Awkward(seed=7)
    requests = [*known(), *(awkward.request() for _ in range(MADE_UP)), {"messages": [user("a few words " * 1000)]}]
    places = asyncio.Semaphore(8)

    async def differs(http, request):
        body = {**request, "model": DEMO.id, "max_tokens": 1}
        async with places, http.post(f"{engine_url}/v1/chat/completions", json=body) as answer:
            told = await answer.json()
        counted = COUNTER.count(**request)
        return None if told["usage"]["prompt_tokens"] == counted else (counted, told["usage"], request)

    async with asyncio.timeout(ALL_S), aiohttp.ClientSession(raise_for_status=True) as http:
        found = await asyncio.gather(*(differs(http, request) for request in requests))
    assert [difference for difference in found if difference] == []
