"""How is a recorded answer told again at the pace at which it was made?

From the times kept beside its chunks, counted from the claim: what a job waited in its queue is not waited again.  Chunks that lie
within `STEP_S` of one another go out together, so a fast answer costs a few hundred wake-ups a second at most, however many tokens it
has.  Sends nothing by itself and holds nothing but the answer: whoever stops reading ends it.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from api.lines import SILENCE_S
from infra.token_stream import Entry
from models.errors import InvalidRequest

STEP_S = 0.005
"""A token takes 10 to 20 ms to make."""
SPEED_LEAST, SPEED_MOST = 0.1, 1000.0
SPEED = r"^(max|[0-9]{1,4}(\.[0-9]{1,3})?x?)$"


def speed_of(text: str) -> float:
    """`1`, `2.5`, `10x` or `max`, which is infinite.  Raises InvalidRequest."""
    speed = math.inf if text == "max" else float(text.removesuffix("x"))
    if text != "max" and not SPEED_LEAST <= speed <= SPEED_MOST:
        raise InvalidRequest(f"speed: from {SPEED_LEAST:g} to {SPEED_MOST:g}, or max", param="speed")
    return speed


async def paced(
    entry: Entry, times_ms: Sequence[int], began_ms: int, speed: float
) -> AsyncGenerator[Entry | None, None]:
    """The entry in parts, each when its time has come; None after each silence.

    `times_ms` are those of all the answer's chunks, whatever of them the entry holds; `began_ms` is when the first was begun.
    """
    clock = asyncio.get_running_loop().time
    start_s = clock()
    for due_s, part in _parts(entry, _due_s(entry, times_ms, began_ms, speed)):
        while (left_s := start_s + due_s - clock()) > 0:
            await asyncio.sleep(min(left_s, SILENCE_S))
            if left_s > SILENCE_S:
                yield None
        yield part


def _due_s(entry: Entry, times_ms: Sequence[int], began_ms: int, speed: float) -> list[float]:
    """For each chunk of the entry; one that comes back goes on from the chunk it has seen."""
    seen = entry.first_sequence - 1
    times = [*times_ms[: seen + len(entry.chunks)]]
    times += times[-1:] * (seen + len(entry.chunks) - len(times))  # usage is told with the last token
    start = times[seen - 1] if seen else began_ms
    return [max(0.0, (at - start) / 1000 / speed) for at in times[seen:]]


def _parts(entry: Entry, due_s: Sequence[float]) -> Iterator[tuple[float, Entry]]:
    numbered = list(enumerate(entry.chunks))
    for _, group in groupby(numbered, lambda one: int(due_s[one[0]] / STEP_S)):
        chunks = list(group)
        first = chunks[0][0]
        part = replace(
            entry, first_sequence=entry.first_sequence + first, chunks=[chunk for _, chunk in chunks], final=None
        )
        yield due_s[first], part
    end = entry.first_sequence + len(numbered)
    yield (due_s[-1] if due_s else 0.0), replace(entry, first_sequence=end, chunks=[])
