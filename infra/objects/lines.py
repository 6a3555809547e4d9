"""Which lines does an object have?  Read piece by piece, told in groups, each with as many whole lines as a piece holds.

A line without an end is told in part once it is longer than anybody takes: who reads it then refuses it, and it is not gathered further.
"""

from collections.abc import AsyncIterator

from infra.objects.store import ObjectStore, read


async def grouped(store: ObjectStore, key: str, size: int, most_bytes: int) -> AsyncIterator[list[bytes]]:
    """Without their line ends.  Of a line of more than `most_bytes` only its beginning is told, which is as long."""
    rest = bytearray()
    async for piece in read(store, key, size):
        first, *others = piece.split(b"\n")
        rest += first[: most_bytes + 1 - len(rest)]
        if others:
            yield [bytes(rest), *others[:-1]]
            rest = bytearray(others[-1])
    if rest:
        yield [bytes(rest)]
