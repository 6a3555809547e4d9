"""Bodies that are nearly right: valid ones of every kind, each broken or bent in one to three places by a seeded dice."""

import copy
import json
import random
from collections.abc import Callable
from typing import Any

Json = Any
Place = tuple[Any, Any]
"""A container, and the key or index in it."""

PNG = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Wie ist das Wetter? ☔",
        "parameters": {
            "type": "object",
            "properties": {"città": {"type": "string"}, "days": {"type": "integer", "maximum": 7, "default": 1}},
            "required": ["città"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"città": "Bari"}'}}
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
ASKED = {"role": "user", "content": "What is the weather?"}
VALID: list[dict[str, Json]] = [
    {"messages": [ASKED]},
    {"messages": [{"role": "system", "content": "Be brief."}, ASKED], "temperature": 0.25, "top_p": 0.5, "seed": 7},
    {"messages": [{"role": "developer", "content": [{"type": "text", "text": "Be kind."}]}, ASKED | {"name": "ada"}]},
    {"messages": [ASKED], "tools": [WEATHER, CLOCK], "tool_choice": "auto", "parallel_tool_calls": False},
    {"messages": [ASKED], "tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
    {
        "messages": [
            ASKED,
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "call_1", "content": "Sun, 30 °C"},
        ],
        "tools": [WEATHER],
    },
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]},
    {
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": "See:"}, {"type": "image_url", "image_url": {"url": PNG}}],
            }
        ]
    },
    {"messages": [ASKED], "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}},
    {"messages": [ASKED], "response_format": {"type": "json_object"}},
    {"messages": [ASKED], "guided_json": SCHEMA},
    {"messages": [ASKED], "metadata": {"order": "4711", "straße": "grün"}, "user": "u", "safety_identifier": "s"},
    {
        "messages": [ASKED],
        "max_tokens": 5,
        "stop": ["x", "\n"],
        "n": 2,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "repetition_penalty": 1.1,
        "top_k": 40,
        "min_p": 0.1,
        "logit_bias": {"5": 1},
    },
    {"messages": [ASKED], "max_completion_tokens": 3, "logprobs": True, "top_logprobs": 2, "service_tier": "flex"},
    {"messages": [ASKED], "stream": True, "stream_options": {"include_usage": True}, "store": False},
    {"messages": [ASKED, {"role": "assistant", "content": "The"}, ASKED], "modalities": ["text"], "store": True},
]
WORDS = (
    *(
        "",
        " ",
        "x",
        "Grüße",
        "🦄👩‍👩‍👧",
        "\u202eevil",
        "\ufeff",
        "\u2028",
        "\x7f",
        "\t\r\n",
        "</s>[INST]",
        "null",
        "\\u0000",
    ),
    *('"quoted"', "\U0010ffff", "e\u0301", "[gMASK]", "日本語 " * 20, "a" * 5000),
)
LONG = ("word " * 200_000)[: 1 << 20]
NUL = "a\0b"
HALF = "HALF-A-PAIR"
"""Stands for what Python's encoder would not leave alone."""
HALF_ESCAPED = b"\\ud83e"
NUMBERS = (0, -1, 1, 2, 16, 17, 0.5, 1e-320, 1e308, 2**31, 2**53 + 1, 2**63, 2**64, 10**30, -(10**25), 1e25)
OTHERS = (None, True, False, [], {}, [[]], {"a": {}}, [None], ["x"], {"type": "text"})
LITERALS = (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"01", b"+1", b"0x10", b"tru", b"'x'")


def body(dice: random.Random) -> bytes:
    """One body; a third of them are bent only where any text will do."""
    parsed = copy.deepcopy(dice.choice(VALID))
    if dice.random() < 0.35:
        _reword(dice, parsed)
        _enrich(dice, parsed)
        return _encoded(parsed)
    for _ in range(dice.choice((1, 1, 2, 3))):
        dice.choice(BENDS)(dice, parsed)
    raw = _encoded(parsed)
    return dice.choice(BREAKS)(dice, raw) if dice.random() < 0.15 else raw


def places(value: Json) -> list[Place]:
    found: list[Place] = []
    level = [value]
    while level:
        here = level.pop()
        for key in here if isinstance(here, dict) else range(len(here)):
            found.append((here, key))
            if isinstance(here[key], dict | list):
                level.append(here[key])
    return found


def _reword(dice: random.Random, parsed: Json) -> None:
    texts = [
        (holder, key)
        for holder, key in places(parsed)
        if isinstance(holder[key], str) and key in {"content", "text", "description", "arguments", "user"}
    ]
    for holder, key in dice.sample(texts, min(2, len(texts))):
        holder[key] = _word(dice)


def _enrich(dice: random.Random, parsed: Json) -> None:
    """A tool's schema may say anything."""
    if "tools" in parsed:
        properties = parsed["tools"][0]["function"]["parameters"]["properties"]
        properties[_word(dice)] = {"description": _word(dice), "default": _other(dice, NUMBERS)}


def _word(dice: random.Random) -> str:
    return LONG if dice.random() < 0.004 else dice.choice(WORDS) + dice.choice(WORDS)


def _other(dice: random.Random, besides: tuple[Json, ...] = ()) -> Json:
    """One's own: what is bent later would be bent in all bodies to come, and one day hold itself."""
    return copy.deepcopy(dice.choice((*besides, *OTHERS)))


def _somewhere(dice: random.Random, parsed: Json) -> Place:
    return dice.choice(places(parsed) or [({"": None}, "")])


def _drop(dice: random.Random, parsed: Json) -> None:
    holder, key = _somewhere(dice, parsed)
    del holder[key]


def _double(dice: random.Random, parsed: Json) -> None:
    holder, key = _somewhere(dice, parsed)
    if isinstance(holder, list):
        holder.extend([copy.deepcopy(holder[key])] * dice.choice((1, 2, 200)))
    else:
        holder[f"{key}_"] = copy.deepcopy(holder[key])


def _retype(dice: random.Random, parsed: Json) -> None:
    holder, key = _somewhere(dice, parsed)
    holder[key] = _other(dice, (*NUMBERS, *WORDS, NUL, HALF))


def _nest(dice: random.Random, parsed: Json) -> None:
    holder, key = _somewhere(dice, parsed)
    for _ in range(dice.choice((1, 2, 50, 300))):
        holder[key] = [holder[key]] if dice.random() < 0.5 else {"a": holder[key]}


def _number(dice: random.Random, parsed: Json) -> None:
    numeric = [(holder, key) for holder, key in places(parsed) if isinstance(holder[key], int | float)]
    holder, key = dice.choice(numeric or [(parsed, "temperature")])
    holder[key] = dice.choice(NUMBERS)


def _stranger(dice: random.Random, parsed: Json) -> None:
    holder, _ = _somewhere(dice, parsed)
    if isinstance(holder, dict):
        holder[dice.choice((*WORDS, "temprature", "rid", "cache_salt", "__proto__", NUL, HALF))] = _other(dice)


def _swap(dice: random.Random, parsed: Json) -> None:
    """A field of another kind of request."""
    parsed |= copy.deepcopy(dice.choice(VALID))


def _odd_word(dice: random.Random, parsed: Json) -> None:
    texts = [(holder, key) for holder, key in places(parsed) if isinstance(holder[key], str)]
    if texts:
        holder, key = dice.choice(texts)
        holder[key] = dice.choice((_word(dice), NUL, HALF))


BENDS: tuple[Callable[[random.Random, Json], None], ...] = (
    *(_drop, _double, _retype, _nest, _number, _number),
    *(_stranger, _swap, _swap, _odd_word, _odd_word, _reword),
)


def _encoded(parsed: Json) -> bytes:
    return json.dumps(parsed, ensure_ascii=False).encode().replace(HALF.encode(), HALF_ESCAPED)


def _literal(dice: random.Random, raw: bytes) -> bytes:
    return raw[:-1] + b', "temperature": ' + dice.choice(LITERALS) + b"}"


def _twice(dice: random.Random, raw: bytes) -> bytes:
    return b'{"messages": "x", "temperature": "x", ' + raw[1:]


def _cut(dice: random.Random, raw: bytes) -> bytes:
    return raw[: dice.randrange(len(raw))]


def _flipped(dice: random.Random, raw: bytes) -> bytes:
    at = dice.randrange(len(raw))
    return raw[:at] + bytes([dice.choice((0x00, 0x1F, 0x80, 0xC0, 0xED, 0xFF, 0x22, 0x5C))]) + raw[at + 1 :]


def _deep(dice: random.Random, raw: bytes) -> bytes:
    depth = dice.choice((90, 99, 101, 1000, 100_000))
    return raw[:-1] + b', "guided_json": ' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"


BREAKS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    *(_literal, _twice, _cut, _flipped, _deep),
    lambda _, raw: b"\xef\xbb\xbf" + raw,
    lambda _, raw: raw.decode().encode("utf-16"),
    lambda _, raw: raw + raw,
    lambda _, raw: b"[" + raw + b"]",
    lambda _, raw: b" \n\t" + raw + b"\r\n",
)
