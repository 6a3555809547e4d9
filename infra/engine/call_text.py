"""Where in a model's text does it call tools?  Mistral's ways of writing calls, read as the text comes.

    [TOOL_CALLS][{"name": "f", "arguments": {...}}, ...]   with or without a space before the list; "parameters" will do as well
    [TOOL_CALLS]f[ARGS]{...}[TOOL_CALLS]g[ARGS]{...}       newer models
    [{"name": "f", "parameters": {...}}]                   `bare`: a grammar has the text begin with the list

A call is told once its name and the beginning of its arguments are read, and these are passed on as they come, as the model writes
them.  What turns out to be no call is text again.  Of plain text nothing is held back but what the marker may begin with.
"""

import json
import re
import secrets
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

MARKER = "[TOOL_CALLS]"

_T = TypeVar("_T")
_Reading = Generator[None, None, _T]
"""Yields when it needs more text."""

_ARGUMENTS = ("arguments", "parameters")
_BLANK = re.compile(r"\s*")
_NAME = re.compile(r"[\w.-]*")
_BETWEEN = re.compile(r"[\s,]*")
_SCALAR = re.compile(r"[\w.+-]*")
_LEFT_OVER = re.compile(r"[\s,\]}]*")


class _NoCall(Exception):
    """What is held is no call."""


@dataclass(slots=True)
class _Call:
    name: str = ""
    arguments: str = "{}"
    """Those that came before the name."""
    told: bool = False


class CallText:
    """The text of one choice.  `calls`: how many were told, here or by an engine that reads them itself."""

    def __init__(self, *, bare: bool = False) -> None:
        self.calls = 0
        self._unread = ""
        self._held = ""
        """Read, and neither told nor known to be none."""
        self._said = ""
        self._fragments: dict[int, dict[str, Any]] = {}
        self._in_words = not bare
        self._in_list = False
        self._reading = self._read(self._bare() if bare else None)

    @property
    def is_plain(self) -> bool:
        """Whether a piece without a bracket can only be text."""
        return self._in_words and not self._unread

    def feed(self, text: str, *, last: bool) -> tuple[str, list[dict[str, Any]]]:
        """The text and the fragments of calls, one a call, that are certain with this piece."""
        self._unread += text
        next(self._reading)
        if last:
            self._end()
        said, fragments = self._said, [*self._fragments.values()]
        self._said, self._fragments = "", {}
        return said, fragments

    def follows(self, calls: int) -> None:
        """The engine has read so many calls itself; SGLang's Mistral detector leaves the rest of their list in the text."""
        self.calls = max(self.calls, calls)
        if not self._in_list:
            self._in_list, self._in_words = True, False
            self._reading = self._read(self._list())

    def _end(self) -> None:
        rest, self._held, self._unread = self._held + self._unread, "", ""
        if not (self.calls and _LEFT_OVER.fullmatch(rest)):
            self._said += rest

    def _read(self, first: _Reading[None] | None) -> _Reading[None]:
        if first is not None:
            yield from self._try(first)
        while True:
            yield from self._words()
            yield from self._try(self._marked())

    def _try(self, calls: _Reading[None]) -> _Reading[None]:
        try:
            yield from calls
        except _NoCall:
            self._said += self._held
            self._held = ""

    def _words(self) -> _Reading[None]:
        """Until a marker is read."""
        self._in_list = False
        if self.calls:
            yield from self._over(_BLANK)  # no text, if nothing follows
        self._unread, self._held = self._held + self._unread, ""
        self._in_words = True
        while (place := self._unread.find(MARKER)) < 0:
            self._say(len(self._unread) - _begun(self._unread))
            yield
        self._say(place)
        self._hold(len(MARKER))
        self._in_words = False

    def _marked(self) -> _Reading[None]:
        if (yield from self._over(_BLANK)) != "[":
            yield from self._compact()
            return
        self._hold(1)
        yield from self._list()

    def _bare(self) -> _Reading[None]:
        if (yield from self._over(_BLANK)) != "[":
            raise _NoCall
        self._hold(1)
        if (yield from self._over(_BLANK)) == "{":
            yield from self._list()
        else:  # a marker, or text
            self._unread, self._held = self._held + self._unread, ""

    def _list(self) -> _Reading[None]:
        """The calls of a list, of which the beginning is read."""
        while (yield from self._over(_BETWEEN)) != "]":
            yield from self._object()
        self._hold(1)
        if not self.calls:
            raise _NoCall
        self._held = ""

    def _object(self) -> _Reading[None]:
        yield from self._expect("{")
        call = _Call()
        while (yield from self._over(_BETWEEN)) != "}":
            yield from self._member(call)
        self._hold(1)
        if not call.told:
            self._tell(call.name, call.arguments)
        self._held = ""

    def _member(self, call: _Call) -> _Reading[None]:
        key = json.loads((yield from self._value()))
        yield from self._expect(":")
        if key in _ARGUMENTS and call.name and not call.told and (yield from self._over(_BLANK)) == "{":
            call.told = True
            self._tell(call.name)
            yield from self._nested(self._pass_on)
            return
        value = yield from self._value()
        if key == "name":
            call.name = json.loads(value)
        elif key in _ARGUMENTS:
            call.arguments = value

    def _compact(self) -> _Reading[None]:
        start = len(self._held)
        yield from self._over(_NAME)
        name = self._held[start:]
        yield from self._expect("[")
        if (yield from self._over(_BLANK)) == "C":
            for character in "CALL_ID]":
                yield from self._expect(character)
            yield from self._over(_NAME)
            yield from self._expect("[")
        for character in "ARGS]":
            yield from self._expect(character)
        if (yield from self._over(_BLANK)) != "{":
            raise _NoCall
        self._tell(name)
        yield from self._nested(self._pass_on)

    def _value(self) -> _Reading[str]:
        """The text of a whole JSON value, held."""
        first = yield from self._over(_BLANK)
        start = len(self._held)
        if first in '"{[':
            yield from self._nested(self._hold)
        else:
            yield from self._over(_SCALAR)
        text = self._held[start:]
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            raise _NoCall from None
        return text

    def _nested(self, take: Callable[[int], None]) -> _Reading[None]:
        """A string, an object or a list; `take` is told how many characters more are of it."""
        nesting = _Nesting()
        while True:
            for count, character in enumerate(self._unread, 1):
                if nesting.ends_with(character):
                    take(count)
                    return
            take(len(self._unread))
            yield

    def _over(self, characters: re.Pattern[str]) -> _Reading[str]:
        """Holds what matches; returns the first character that does not, unread."""
        while True:
            if found := characters.match(self._unread):
                self._hold(found.end())
            if self._unread:
                return self._unread[0]
            yield

    def _expect(self, character: str) -> _Reading[None]:
        if (yield from self._over(_BLANK)) != character:
            raise _NoCall
        self._hold(1)

    def _tell(self, name: Any, arguments: str = "") -> None:
        if not name or not isinstance(name, str):
            raise _NoCall
        self._fragments[self.calls] = {
            "index": self.calls,
            "id": f"call_{secrets.token_hex(12)}",
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }
        self.calls += 1
        self._held = ""

    def _pass_on(self, count: int) -> None:
        number = self.calls - 1
        piece, self._unread = self._unread[:count], self._unread[count:]
        if piece:
            fragment = self._fragments.setdefault(number, {"index": number, "function": {"arguments": ""}})
            fragment["function"]["arguments"] += piece

    def _hold(self, count: int) -> None:
        self._held += self._unread[:count]
        self._unread = self._unread[count:]

    def _say(self, count: int) -> None:
        self._said += self._unread[:count]
        self._unread = self._unread[count:]


class _Nesting:
    """Where a JSON value ends, by its quotes and brackets alone."""

    def __init__(self) -> None:
        self._depth = 0
        self._quoted = self._escaped = False

    def ends_with(self, character: str) -> bool:
        if self._escaped:
            self._escaped = False
            return False
        if self._quoted:
            self._escaped = character == "\\"
            self._quoted = character != '"'
        elif character == '"':
            self._quoted = True
        else:
            self._depth += (character in "{[") - (character in "}]")
        return not self._depth and not self._quoted


def _begun(text: str) -> int:
    """How much of the marker the text ends with."""
    return next((length for length in range(len(MARKER) - 1, 0, -1) if text.endswith(MARKER[:length])), 0)
