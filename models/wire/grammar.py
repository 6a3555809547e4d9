"""May this JSON schema, or this regular expression, bind an answer?  What would stop the engine for everybody is refused at the door.

SGLang 0.5.23 (xgrammar 0.2.7) compiles grammars beside its loop, but steps through them in it: measured on a CPU, 5,000 optional
properties compile for more than a minute, and an expression that repeats what repeats holds up every other answer for as long.  A
reference that leads to itself lets no token through and ends as a failure of the engine's; keywords it cannot express it ignores
below a tool.  Raises ValueError of the form "place: what is wrong".
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

SCHEMA_CHARACTERS = 65_536
"""Names and values of all schemas of a request together; the compiler's time grows with their square."""
PROPERTIES_MOST = 500
VALUES_MOST = 1_000
"""Of all `enum`s together, as with OpenAI."""
SCHEMAS_MOST = 2_000
"""Schemas within schemas; a chain of 5,000 definitions compiles for nine seconds."""
STEPS_MOST = 10_000
"""That all references of a request may lead, one by one; it takes the door 10 ms to go them."""
_NAME_CHARACTERS = 64
"""Of a name in a place: each schema has its own, and a caller's names may be as long as the body."""
REGEX_CHARACTERS = 2_000

_INEXPRESSIBLE = frozenset(
    {"contains", "dependentRequired", "dependentSchemas", "else", "if", "maxContains", "minContains", "multipleOf"}
    | {"not", "then", "uniqueItems", "unevaluatedItems", "unevaluatedProperties"}
)
_TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")
_UNNAMED = re.compile(r"[\s:]")  # what a place must not hold, to be told from the words behind it
_ONE = frozenset({"items", "additionalProperties", "propertyNames", "additionalItems"})
_LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_CHOICES = ("anyOf", "oneOf", "allOf")
_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions"})
_BOUNDS = {
    "characters": (SCHEMA_CHARACTERS, "characters of names and values"),
    "properties": (PROPERTIES_MOST, "properties"),
    "values": (VALUES_MOST, "values in enums"),
    "schemas": (SCHEMAS_MOST, "schemas within schemas"),
    "steps": (STEPS_MOST, "steps from reference to reference"),
}
_RUNS_CHARACTERS = 500
"""What all repetitions of a bounded, varying length may match together; two of 200 beside one another cost 60 ms a token."""
_NESTED_CHARACTERS = 40
"""How long a text a bounded repetition of bounded repetitions may match; at 64 others already wait 1.5 s."""
_UNBOUNDED = float("inf")


def check_schemas(schemas: Mapping[str, Mapping[str, Any]]) -> None:
    """The JSON schemas of one request, by their places, which together have to stay within bounds."""
    tally = dict.fromkeys(_BOUNDS, 0)
    for where, root in schemas.items():
        sound: set[str] = set()
        for place, schema in _within(root, where):
            _count(schema, tally)
            if "$ref" in schema:
                tally["steps"] += _check_reference(schema, root, place, sound)
            if found := _over(tally):
                raise ValueError(f"{where}: {found}")
            _check_node(schema, place)


def check_regex(pattern: str, where: str) -> None:
    if len(pattern) > REGEX_CHARACTERS:
        raise ValueError(f"{where}: at most {REGEX_CHARACTERS} characters are taken")
    try:
        _Reader(pattern).alternatives()
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _within(root: Any, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every schema in a schema, with its place."""
    left = [(where, root)]
    while left:
        place, schema = left.pop()
        if isinstance(schema, dict):
            yield place, schema
            left += _children(schema, place)


def _children(schema: Mapping[str, Any], place: str) -> Iterator[tuple[str, Any]]:
    for keyword, value in schema.items():
        if keyword in _MAPS and isinstance(value, dict):
            yield from ((f"{place}.{keyword}.{_shown(name)}", child) for name, child in value.items())
        elif keyword in _LISTS and isinstance(value, list):
            yield from ((f"{place}.{keyword}[{number}]", child) for number, child in enumerate(value))
        elif keyword in _ONE:
            yield f"{place}.{keyword}", value


def _shown(name: str) -> str:
    return _UNNAMED.sub("_", name[:_NAME_CHARACTERS])


def _check_node(schema: Mapping[str, Any], place: str) -> None:
    if unable := sorted(_INEXPRESSIBLE.intersection(schema)):
        raise ValueError(f"{place}: {', '.join(unable)} cannot be enforced; leave it out")
    kinds = schema.get("type", [])
    for kind in kinds if isinstance(kinds, list) else [kinds]:
        if kind not in _TYPES:
            raise ValueError(f"{place}: there is no such type; the types are {', '.join(_TYPES)}")
    named = schema.get("patternProperties")
    for pattern in [schema.get("pattern"), *(named if isinstance(named, dict) else ())]:
        if isinstance(pattern, str):
            check_regex(pattern, place)


def _check_reference(schema: Mapping[str, Any], root: Mapping[str, Any], place: str, sound: set[str]) -> int:
    """Whoever follows references and choices from here comes to something else, in how many steps.  `sound`: names of which it is known.

    Else no token is let through.
    """
    left: list[Any] = [schema]
    seen: set[str] = set()
    steps = 0
    while left:
        here = left.pop()
        steps += 1
        if isinstance(here, dict) and "$ref" in here:
            name = _named(here["$ref"], place)
            if name in sound:
                break
            if name not in seen:
                seen.add(name)
                left.append(_at(root, name, place))
        elif isinstance(here, dict) and (choices := _choices(here)):
            left += choices
            steps += len(choices)
        else:
            break
    else:
        raise ValueError(f"{place}: this $ref leads to itself and to nothing else")
    sound.add(schema["$ref"])
    return steps


def _choices(schema: Mapping[str, Any]) -> list[Any] | None:
    """What stands in the schema's place, of which the compiler takes the first it knows."""
    return next((listed for name in _CHOICES if isinstance(listed := schema.get(name), list) and listed), None)


def _named(name: Any, place: str) -> str:
    if not isinstance(name, str) or not name.startswith("#"):
        raise ValueError(f"{place}: a $ref has to be to a place in the schema itself, as #/$defs/name")
    return name


def _at(root: Mapping[str, Any], name: str, place: str) -> Any:
    here: Any = root
    for step in name.removeprefix("#").split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(here, dict) or key not in here:
            raise ValueError(f"{place}: there is nothing at the $ref's place")
        here = here[key]
    return here


def _count(schema: Mapping[str, Any], tally: dict[str, int]) -> None:
    values = schema.get("enum")
    values = [*values] if isinstance(values, list) else []
    maps = (schema.get(keyword) for keyword in ("properties", "patternProperties"))
    names = [name for each in maps if isinstance(each, dict) for name in each]
    tally["values"] += len(values)
    tally["properties"] += len(names)
    said = [*values, *names, schema.get("const"), schema.get("pattern")]
    tally["characters"] += sum(len(str(each)) for each in said if each is not None)
    below = (schema.get(keyword) for keyword in _MAPS | _LISTS)
    tally["schemas"] += sum(len(each) for each in below if isinstance(each, dict | list)) + len(_ONE & schema.keys())


def _over(tally: Mapping[str, int]) -> str | None:
    return next(
        (f"at most {most} {words} are taken" for name, (most, words) in _BOUNDS.items() if tally[name] > most), None
    )


@dataclass(frozen=True, slots=True)
class _Piece:
    """What a part of an expression can match."""

    longest: float = 1
    may_be_empty: bool = False
    varying: int = 0
    """Repetitions of no fixed number in it, one after the other."""
    depth: int = 0
    """How deep such repetitions stand in one another."""


_QUANTIFIER = re.compile(r"([*+?]|\{(\d{1,6})(,(\d{0,6}))?\})[?]?")
_ATOM = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|[^\\()|\[]", re.DOTALL)
_GROUP = re.compile(r"\((\?:|\?<\w+>|\?P<\w+>)?")
_DEEPEST = 50


class _Reader:
    """Reads an expression only for how it repeats; what it means, and whether it is one, the engine says."""

    def __init__(self, pattern: str) -> None:
        self._pattern, self._at, self._open, self._runs = pattern, 0, 0, 0.0

    def alternatives(self) -> _Piece:
        branches = [self._sequence()]
        while self._pattern.startswith("|", self._at):
            self._at += 1
            branches.append(self._sequence())
        return _Piece(
            max(each.longest for each in branches),
            any(each.may_be_empty for each in branches),
            sum(each.varying for each in branches),
            max(each.depth for each in branches),
        )

    def _sequence(self) -> _Piece:
        pieces = []
        while self._at < len(self._pattern) and self._pattern[self._at] not in "|)":
            pieces.append(self._repeated(self._one()))
        if not self._open and self._pattern.startswith(")", self._at):
            raise ValueError("a parenthesis is closed that was not opened")
        return _Piece(
            sum(each.longest for each in pieces),
            all(each.may_be_empty for each in pieces),
            sum(each.varying for each in pieces),
            max((each.depth for each in pieces), default=0),
        )

    def _one(self) -> _Piece:
        if group := _GROUP.match(self._pattern, self._at):
            return self._group(group)
        atom = _ATOM.match(self._pattern, self._at)
        if atom is None:
            raise ValueError("a bracket or an escape has no end")
        if atom[0][0] == "\\" and atom[0][1] in "123456789k":
            raise ValueError("what a group has matched cannot be asked for again")
        self._at = atom.end()
        return _Piece(0, may_be_empty=True) if atom[0] in {"^", "$", "\\b", "\\B"} else _Piece()

    def _group(self, begin: re.Match[str]) -> _Piece:
        if self._open == _DEEPEST:
            raise ValueError(f"groups stand more than {_DEEPEST} deep in one another")
        self._at = begin.end()
        if self._pattern.startswith("?", self._at):  # below a schema the engine would leave it out without a word
            raise ValueError("a group is (...), (?:...) or (?<name>...); there is no looking ahead or behind")
        self._open += 1
        inside = self.alternatives()
        self._open -= 1
        if not self._pattern.startswith(")", self._at):
            raise ValueError("a parenthesis is not closed")
        self._at += 1
        return inside

    def _repeated(self, body: _Piece) -> _Piece:
        found = _QUANTIFIER.match(self._pattern, self._at)
        if found is None:
            return body
        self._at = found.end()
        least, most = _bounds(found)
        if most <= 1:
            return _Piece(body.longest * most, body.may_be_empty or least == 0, body.varying, body.depth)
        if body.may_be_empty:
            raise ValueError("what is repeated must not be able to match nothing, as in (a*)*")
        longest = body.longest * most
        if body.depth and longest > _NESTED_CHARACTERS and not (body.varying == 1 == body.depth and most == _UNBOUNDED):
            raise ValueError("repetitions stand in one another, as in (a+b+)*, which may take the engine forever")
        varies = least != most
        if varies and longest != _UNBOUNDED:
            self._runs += longest
        if self._runs > _RUNS_CHARACTERS:
            raise ValueError(
                f"bounded repetitions may match {_RUNS_CHARACTERS} characters together; * and + any number"
            )
        return _Piece(longest, least == 0, body.varying + varies, body.depth + varies)


def _bounds(quantifier: re.Match[str]) -> tuple[int, float]:
    """How often at least, and at most."""
    if quantifier[1] in {"*", "+", "?"}:
        return int(quantifier[1] == "+"), 1 if quantifier[1] == "?" else _UNBOUNDED
    least = int(quantifier[2])
    if quantifier[3] is None:
        return least, least
    return least, int(quantifier[4]) if quantifier[4] else _UNBOUNDED
