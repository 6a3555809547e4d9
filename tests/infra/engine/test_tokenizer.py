"""Does the count made at the door equal what the engine counts?

First by hand: each case says what the prompt must read like.  Then by the real engine, over every dialogue that ships and several
hundred that are made up to be awkward.
"""

import asyncio
import json
import random
from pathlib import Path

import aiohttp
import pytest

from infra.engine import tokenizer
from infra.engine.tokenizer import counter_for
from models.cards.card import catalogue
from models.errors import InvalidRequest

DEMO = catalogue()["tram-demo"]
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


def user(content):
    return {"role": "user", "content": content}


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


def test_a_control_token_is_one_token():
    assert COUNTER.count_text("<s>[INST][/INST]</s>") == 4


@pytest.mark.parametrize("arguments", ["", "{", "[1]", '"x"', "null"])
def test_arguments_that_are_no_object_are_named(arguments):
    with pytest.raises(InvalidRequest) as caught:
        COUNTER.count([user("a"), called({"arguments": arguments}), user("b")])
    assert caught.value.param == "messages[1].tool_calls[0].function.arguments"


def test_only_packaged_tokenizers_count():
    assert counter_for(DEMO) is COUNTER
    assert counter_for(catalogue()["mistral-small-24b-instruct-2501-awq"]) is None


def known():
    """Every beginning of every dialogue that ships."""
    for line in DIALOGUES.read_text(encoding="utf-8").splitlines():
        dialogue = json.loads(line)
        tools = {"tools": dialogue["tools"]} if dialogue.get("tools") else {}
        for end in range(1, len(dialogue["messages"]) + 1):
            yield {"messages": dialogue["messages"][:end], **tools}


class Awkward:
    """Requests that mix all that a template has to deal with."""

    words = (
        "the",
        "Paris",
        "[INST]",
        "</s>",
        "<s>",
        "[TOOL_CALLS]",
        "🎉",
        "Grüß",
        "日本語",
        "\n\n",
        " ",
        "e\u0301",
        '{"a": 1}',
        "\u200b",
    )

    def __init__(self, seed):
        self.dice = random.Random(seed)

    def text(self, most=40):
        return " ".join(self.dice.choice(self.words) for _ in range(self.dice.randint(0, most)))

    def content(self):
        parts = [{"type": "text", "text": self.text()} for _ in range(self.dice.randint(1, 3))]
        return self.dice.choice([self.text(), parts])

    def calls(self):
        ids = [f"call_{self.dice.getrandbits(40):x}" for _ in range(self.dice.randint(1, 3))]
        functions = [{"name": f"f{n}", "arguments": self.arguments()} for n in range(len(ids))]
        calls = [
            {"id": id_, "type": "function", "function": function} for id_, function in zip(ids, functions, strict=True)
        ]
        yield {"role": "assistant", "content": self.dice.choice([None, "", self.text()]), "tool_calls": calls}
        for id_ in self.dice.sample(ids, len(ids)):
            yield {"role": "tool", "tool_call_id": id_, "content": self.content()}

    def arguments(self):
        value = {"ä": self.text(3), "n": self.dice.choice([1, 1.5, 1e30, None, True, [1, {"b": []}]])}
        return json.dumps(value, ensure_ascii=self.dice.random() < 0.5, indent=self.dice.choice([None, 2]))

    def tool(self, number):
        properties = {"ä": {"type": ["string", "null"], "enum": ["x", None]}, "n": {"type": "number", "default": 1.50}}
        fields = {
            "description": self.text(5),
            "parameters": {"type": "object", "properties": properties},
            "strict": False,
        }
        kept = self.dice.sample(sorted(fields), self.dice.randint(0, len(fields)))
        return {
            "type": "function",
            "function": {name: {"name": f"f{number}", **fields}[name] for name in [*kept, "name"]},
        }

    def turns(self):
        if self.dice.random() < 0.5:
            yield {"role": "system", "content": self.content()}
        for _ in range(self.dice.randint(1, 3)):
            yield user(self.content())
            yield from self.dice.choice([[], [{"role": "assistant", "content": self.content()}], list(self.calls())])

    def request(self):
        request = {"messages": list(self.turns()), "continue_final_message": self.dice.random() < 0.5}
        if self.dice.random() < 0.6:
            named = {"type": "function", "function": {"name": "f0"}}
            request["tools"] = [self.tool(number) for number in range(self.dice.randint(1, 3))]
            request["tool_choice"] = self.dice.choice(["auto", "none", "required", named])
        return request


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
