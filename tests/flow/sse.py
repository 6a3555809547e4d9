"""Server-sent events as a client reads them, with the bytes they came in."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx2


@dataclass(frozen=True, slots=True)
class Event:
    raw: str
    id: str | None
    event: str | None
    data: str

    @property
    def chunk(self) -> dict[str, Any]:
        return json.loads(self.data)


def events(response: httpx2.Response) -> Iterator[Event]:
    """Comments are left out."""
    rest = ""
    for text in response.iter_text():
        *blocks, rest = (rest + text).split("\n\n")
        yield from (_event(block) for block in blocks if not block.startswith(":"))
    assert not rest, f"the stream broke off within an event: {rest!r}"


def events_in(body: str) -> list[Event]:
    """Of a stream that was read whole."""
    *blocks, rest = body.split("\n\n")
    assert not rest, f"the stream broke off within an event: {rest!r}"
    return [_event(block) for block in blocks if not block.startswith(":")]


def text_of(stream: Iterable[Event]) -> str:
    """What the first choice says, put together from its chunks; `event: restart` voids what came before."""
    text = ""
    for event in stream:
        if event.event == "restart":
            text = ""
        elif event.event is None and event.data != "[DONE]":
            deltas = [choice["delta"] for choice in event.chunk.get("choices", ()) if choice["index"] == 0]
            text += "".join(delta.get("content") or "" for delta in deltas)
    return text


def numbers(stream: Iterable[Event]) -> list[int]:
    """The second half of each event's id."""
    return [int(event.id.partition("-")[2]) for event in stream if event.id]


def _event(block: str) -> Event:
    fields = dict(line.split(": ", 1) for line in block.split("\n"))
    assert set(fields) <= {"id", "event", "data"}, block
    return Event(block + "\n\n", fields.get("id"), fields.get("event"), fields["data"])
