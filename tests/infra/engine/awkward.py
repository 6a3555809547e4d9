"""Chat requests that mix all that a template and a tokenizer have to deal with, alike for the same seed."""

import json
import random


def user(content):
    return {"role": "user", "content": content}


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
        "McDonald's",
        "eBay",
        "12345",
        "русский",
        "हिन्दी",
        "<SPECIAL_25>",
        "\r\n\t ",
        "=====",
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
