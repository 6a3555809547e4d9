"""What does the demo model practise?  Its dialogues in other words and after other turns; copying; tool calls; JSON under a grammar."""

import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

from infra.engine.cpu.training.dialogues import (
    END,
    Dialogue,
    Message,
    Piece,
    as_engine_shows,
    calls_text,
    render,
    split,
    written,
)
from infra.engine.cpu.training.wording import Wording

_CONDITIONS = ["cloudy", "sunny", "rainy", "snowy", "windy", "foggy", "clear", "stormy", "overcast", "partly cloudy"]
_WEATHER = [
    "What is the weather in {}?",
    "How is the weather in {}?",
    "What's the weather like in {}?",
    "Weather in {}",
    "Tell me the weather in {}.",
    "What is the weather in {} today?",
    "Is it raining in {}?",
    "weather {}?",
]
_ECHO = ["Repeat after me: ", "Repeat after me: ", "Repeat: ", "Echo: ", "repeat after me: ", "Say after me: "]
_COPY_FIRST = 7  # samples a step for which copying has half the draws; a step takes about 25


def practice(wording: Wording, dialogues: Sequence[Dialogue], steps: int) -> Callable[[], list[Piece]]:
    """Draws samples without end: copying first, since it is slow to appear, and learning by heart is quick."""
    kinds = [dialogue for dialogue in dialogues for _ in range(_share(dialogue))]
    drawn = itertools.count()

    def draw() -> list[Piece]:
        early = next(drawn) < _COPY_FIRST * steps
        return _echo(wording) if early and wording.chance(0.5) else _sample(wording, dialogues, kinds)

    return draw


def _share(dialogue: Dialogue) -> int:
    """Those with several things to learn come more often."""
    if dialogue["id"].startswith("echo"):
        return 15
    if dialogue["id"] == "fallback":
        return 10
    return 12 if _calls(dialogue) else len(dialogue["messages"]) // 2


def _calls(dialogue: Dialogue) -> bool:
    return any(message.get("tool_calls") for message in dialogue["messages"])


def _sample(wording: Wording, dialogues: Sequence[Dialogue], kinds: Sequence[Dialogue]) -> list[Piece]:
    dialogue = wording.dice.choice(kinds)
    if dialogue["id"].startswith("echo") and wording.chance(0.9):
        return _echo(wording)
    if _calls(dialogue):
        return _tool_sample(wording, dialogue)
    if dialogue.get("forced_json") and wording.chance(0.4):
        return _forced_json(wording, dialogue)
    return _conversation(wording, dialogues, dialogue)


def _conversation(wording: Wording, dialogues: Sequence[Dialogue], dialogue: Dialogue) -> list[Piece]:
    alone = bool(dialogue.get("system_matters"))
    system = split(dialogue)[0] if alone else wording.system()
    tools = None
    if dialogue.get("tools") or (wording.chance(0.06) and not dialogue["id"].startswith("weather")):
        tools = wording.any_tools()[2]
    before: list[Message] = []
    if not alone and not tools and wording.chance(0.25):
        for _ in range(wording.dice.randint(1, 2)):
            other = wording.dice.choice(dialogues)
            if not other.get("system_matters") and not other.get("tools"):
                before += _asked(wording, other)
    return render(before + _asked(wording, dialogue), system, tools)


def _asked(wording: Wording, dialogue: Dialogue) -> list[Message]:
    out = []
    for index, message in enumerate(split(dialogue)[1]):
        if message["role"] != "user":
            out.append(message)
        elif dialogue["id"] == "fallback" and wording.chance(0.35):
            out.append({"role": "user", "content": wording.clip(5, 120)})
        else:
            out.append({"role": "user", "content": wording.question(dialogue, index)})
    return out


def _echo(wording: Wording) -> list[Piece]:
    """Anything, said again: teaches copying, which the tool calls need too."""
    text = _anything(wording)
    ask = wording.dice.choice(_ECHO)
    turns = [{"role": "user", "content": ask + text}, {"role": "assistant", "content": text}]
    return render(turns, wording.system())


def _anything(wording: Wording) -> str:
    dice = wording.dice
    match wording.band(0.5, 0.8):
        case 0:
            return wording.clip(3, 70)
        case 1:
            words = range(dice.randint(1, 5))
            return " ".join(wording.city() if wording.chance(0.6) else str(dice.randint(0, 99999)) for _ in words)
    return "".join(dice.choice("0123456789abcdef-") for _ in range(dice.randint(3, 20)))


def _forced_json(wording: Wording, dialogue: Dialogue) -> list[Piece]:
    """A grammar forces the keys; the values are still the model's."""
    value = dialogue["forced_json"]
    keys = wording.dice.sample(list(value), len(value))
    colon, comma = ('": "', '", "') if wording.chance(0.85) else ('":"', '","')
    text = "{" + comma[1:-1].join(f'"{key}{colon}{value[key]}"' for key in keys) + "}"
    forced = {("{" if n == 0 else comma[1:-1]) + f'"{key}{colon}' for n, key in enumerate(keys)}
    question = wording.question(dialogue, 0)
    return [*render([{"role": "user", "content": question}], wording.system()), (text + END, forced)]


def _tool_sample(wording: Wording, dialogue: Dialogue) -> list[Piece]:
    """A weather question with a tool: the call, or the sentence after the result."""
    system = wording.system()
    several = len(split(dialogue)[1][1]["tool_calls"]) > 1
    question, tools, calls, found = (_own_weather if several or wording.chance(0.35) else _any_weather)(
        wording, dialogue
    )
    ask = {"role": "user", "content": question}
    if wording.chance(0.65):
        return [*render([ask], system, tools), _call(wording, calls)]
    calls = [dict(call, id=wording.call_id(), type="function") for call in calls]
    turns = [ask, {"role": "assistant", "content": None, "tool_calls": calls}]
    for index, message in enumerate(found):
        turns.append(dict(message, tool_call_id=calls[index]["id"]) if message["role"] == "tool" else message)
    return render(turns, system, tools)


Weather = tuple[str, list[dict[str, Any]], list[dict[str, Any]], list[Message]]
"""Question, tools, calls, and what is found: results and the sentence."""


def _own_weather(wording: Wording, dialogue: Dialogue) -> Weather:
    messages = split(dialogue)[1]
    question, tools = wording.question(dialogue, 0), as_engine_shows(dialogue["tools"]) or []
    if wording.chance(0.5):
        prop = next(iter(tools[0]["function"]["parameters"]["properties"]))
        tools = [wording.weather_tool(prop, "get_weather")]
    return question, tools, messages[1]["tool_calls"], messages[2:]


def _any_weather(wording: Wording, _: Dialogue) -> Weather:
    dice = wording.dice
    prop, name, tools = wording.any_tools()
    city = wording.city()
    question = dice.choice(_WEATHER).format(city)
    calls = [{"function": {"name": name, "arguments": written({prop: city})}}]
    temperature, conditions = dice.randint(-9, 39), dice.choice(_CONDITIONS)
    usual = json.dumps({"temperature": temperature, "conditions": conditions})
    turned = json.dumps({"conditions": conditions, "temperature": temperature})
    full = json.dumps({prop: city, "temperature": temperature, "conditions": conditions})
    result = dice.choice([usual, usual, turned, full])
    said = f"It is {temperature} degrees and {conditions} in {city} right now."
    return question, tools, calls, [{"role": "tool", "content": result}, {"role": "assistant", "content": said}]


def _call(wording: Wording, calls: list[dict[str, Any]]) -> Piece:
    items = [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls]
    match wording.band(0.75, 0.9):
        case 0:
            return calls_text(calls, ids=False) + END, True
        case 1:  # what the grammar of tool_choice "required" forces
            forced = ", ".join(written({"name": name, "parameters": arguments}) for name, arguments in items)
            return f"[{forced}]{END}", {'[{"name"'}
    name, arguments = items[0]  # "strict": true
    begun = f'[TOOL_CALLS] [{{"name":"{name}", "arguments":'
    return begun + written(arguments) + "}]" + END, {begun}
