"""In what words may the same thing be asked?  Every draw is from the given dice, so one seed makes one training run."""

import bisect
import random
from collections.abc import Sequence
from typing import Any

from infra.engine.cpu.training.dialogues import Dialogue, split

_SYSTEMS = [
    "You are a helpful assistant.",
    "You are a helpful, concise assistant.",
    "You are Mistral Small, a large language model.",
    "Be brief.",
    "You are a friendly assistant who answers briefly and clearly.",
    "You are an expert. Think before you answer.",
]
_OPENINGS = ["Please ", "please, ", "Hi, ", "Hello! ", "Can you tell me: ", "So, ", "OK. ", "Now "]
_ENDINGS = ["?", "!", ".", "??", " ", " please", ", please."]
_CITIES = """Amsterdam Athens Belgrade Berlin Bern Bratislava Brussels Bucharest Budapest Copenhagen Dublin Helsinki
Kyiv Lisbon Ljubljana Luxembourg Madrid Moscow Oslo Paris Prague Riga Rome Sofia Stockholm Tallinn Tirana
Vienna Vilnius Warsaw Zagreb London Tokyo Kyoto Osaka Beijing Shanghai Delhi Mumbai Cairo Lagos Nairobi Accra
Dakar Tunis Boston Chicago Denver Dallas Seattle Miami Toronto Montreal Lima Quito Santiago Havana Sydney Perth
Melbourne Auckland Lyon Marseille Toulouse Nice Bordeaux Hamburg Munich Cologne Dresden Milan Turin Naples
Venice Porto Seville Valencia Geneva Zurich Basel Ghent Bergen Turku""".split()  # noqa: SIM905 - a list of them fills a page
_CITIES += [
    "New York",
    "San Francisco",
    "Los Angeles",
    "Buenos Aires",
    "Rio de Janeiro",
    "Cape Town",
    "Hong Kong",
    "The Hague",
]
_LONG_ENOUGH = 8  # characters: a slip of the pen in fewer may change what is asked


class Wording:
    def __init__(self, dice: random.Random, noise: Sequence[str]) -> None:
        self.dice = dice
        self._noise = noise

    def chance(self, share: float) -> bool:
        return self.dice.random() < share

    def band(self, *bounds: float) -> int:
        """Which of the bands between rising bounds one draw falls into."""
        return bisect.bisect_right(bounds, self.dice.random())

    def clip(self, least: int, most: int) -> str:
        """Some characters of noise."""
        text = self.dice.choice(self._noise)
        length = self.dice.randint(least, most)
        start = self.dice.randrange(max(1, len(text) - length))
        return text[start : start + length].strip()

    def system(self) -> str | None:
        match self.band(0.5, 0.8):
            case 0:
                return None
            case 1:
                return self.dice.choice(_SYSTEMS)
        return self.clip(10, 250)

    def question(self, dialogue: Dialogue, index: int) -> str:
        """A user's message as written or in other words, sometimes careless."""
        place = index + (split(dialogue)[0] is not None)
        first = dialogue["messages"][place]["content"]
        also = dialogue.get("also", {}).get(str(place), [])
        text = first if not also or self.chance(0.35) else self.dice.choice(also)
        if dialogue["id"].startswith("echo"):  # every letter counts
            return str(text)
        return self._slip(self._open(self._end(self._case(text))))

    def _case(self, text: str) -> str:
        if self.chance(0.2):
            return text.lower()
        return text.upper() if self.chance(0.05) else text

    def _end(self, text: str) -> str:
        match self.band(0.15, 0.2):
            case 0:
                return text.rstrip(".?! ")
            case 1:
                return text.rstrip(".?! ") + self.dice.choice(_ENDINGS)
        return text

    def _open(self, text: str) -> str:
        if not self.chance(0.12):
            return text
        return self.dice.choice(_OPENINGS) + (text[:1].lower() + text[1:] if self.chance(0.6) else text)

    def _slip(self, text: str) -> str:
        if not self.chance(0.08) or len(text) <= _LONG_ENOUGH:
            return text
        place = self.dice.randrange(1, len(text) - 1)
        return text[:place] + self.dice.choice(["", text[place] * 2]) + text[place + 1 :]

    def city(self) -> str:
        """A real one, or a made-up one that teaches copying."""
        if self.chance(0.5):
            return self.dice.choice(_CITIES)
        return "".join(self._syllable() for _ in range(self.dice.randint(2, 4))).capitalize()

    def _syllable(self) -> str:
        ends = ["", "", "n", "r", "l", "s", "m", "t"]
        return self.dice.choice("bcdfghjklmnprstvwz") + self.dice.choice("aeiou") + self.dice.choice(ends)

    def call_id(self) -> str:
        if self.chance(0.7):
            return "call_" + "".join(self.dice.choice("0123456789abcdef") for _ in range(24))
        return "".join(self.dice.choice("abcdefghijklmnopqrstuvwxyzABCDEFGHIJ0123456789") for _ in range(9))

    def any_tools(self) -> tuple[str, str, list[dict[str, Any]]]:
        """(property, name, tools)"""
        prop = self.dice.choice(["location", "location", "city", "city", "place", "town"])
        name = self.dice.choice(["get_weather"] * 6 + ["get_current_weather", "weather"])
        return prop, name, [self.weather_tool(prop, name)]

    def weather_tool(self, prop: str, name: str) -> dict[str, Any]:
        """The same tool as different clients write it, as SGLang hands it to the template."""
        function: dict[str, Any] = {"name": name, "parameters": self._parameters(prop)}
        function["description"] = self.dice.choice(_PURPOSES) if self.chance(0.75) else None
        if self.chance(0.15):
            function["strict"] = self.chance(0.7)
        usual = ["name", "description", "parameters", "strict"]
        order = usual if self.chance(0.7) else self.dice.sample(list(function), len(function))
        shown = {field: function[field] for field in order if field in function}
        return {"type": "function", "function": shown, "defer_loading": None}

    def _parameters(self, prop: str) -> dict[str, Any]:
        value: dict[str, Any] = {"type": "string"}
        if self.chance(0.3):
            value["description"] = self.dice.choice(_PLACES)
        properties = {prop: value}
        if self.chance(0.12):
            properties["unit"] = {"type": "string", "enum": ["celsius", "fahrenheit"]}
        closed = {"additionalProperties": False} if self.chance(0.2) else {}
        return {"type": "object", "properties": properties, "required": [prop], **closed}


_PLACES = ["The city", "City name", "City, e.g. Paris", "The city to look up", "Where"]
_PURPOSES = [
    "Get the current weather",
    "Current weather",
    "Get the weather for a city",
    "Get weather",
    "The weather now",
]
