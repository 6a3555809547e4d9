"""What may be relied on when an object is written?

It is there whole or not at all, for a reader at any moment and after a power cut.  `put_new` creates and never replaces: of many
writers one is told True.  A key is a leaf in a tree of plain names, never a folder of other keys.  A store does blocking work in
threads of its own, a bounded number; it caches nothing and does not know what it holds.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from models.errors import InvalidRequest, Unavailable

T = TypeVar("T")

THREADS = 16  # calls under way at once in one store
PIECE_BYTES = 1 << 20
"""What is read of a large object at a time: a hundred of them under way stay within a process's memory."""
KEY_LIMIT_CHARACTERS = 512  # S3 takes 1024 bytes, of which the operator's prefix needs some
NAME = re.compile(r"[A-Za-z0-9_=-][A-Za-z0-9_=.-]{0,199}")  # no leading dot; 255 bytes are what file systems take


class ObjectStore(Protocol):
    async def open(self) -> None:
        """Comes first.  Raises `Unavailable` when objects cannot be written here."""

    async def close(self) -> None: ...

    async def put(self, key: str, data: bytes) -> None:
        """Create or replace."""

    async def put_new(self, key: str, data: bytes) -> bool:
        """Create; False when the key is taken, and then nothing is changed."""

    async def put_stream(self, key: str, pieces: AsyncIterator[bytes]) -> int:
        """Create or replace, from what comes, holding little of it at a time; its size in bytes.  Nothing stays if `pieces` raises."""

    async def get(self, key: str) -> bytes:
        """Raises `NotFound`."""

    async def get_part(self, key: str, start: int, size: int) -> bytes:
        """`size` bytes from `start`, fewer at the end, none behind it.  Raises `NotFound`."""

    async def delete(self, key: str) -> None:
        """Whether it is there or not."""

    def list(self, prefix: str) -> AsyncIterator[str]:
        """All keys that begin with the characters of `prefix`, in order."""


def checked(key: str) -> str:
    """The key; raises `InvalidRequest` for one that some store could read as anything but a leaf in its tree."""
    if len(key) > KEY_LIMIT_CHARACTERS or not all(map(NAME.fullmatch, key.split("/"))):
        raise InvalidRequest("an object's key is made of plain names between slashes", param="key")
    return key


def checked_prefix(prefix: str) -> tuple[str, str]:
    """The folders a prefix names in full, and how the name begins that follows them."""
    stem, slash, begins = prefix.rpartition("/")
    if slash:
        checked(stem)
    if begins:
        checked(begins)
    return stem + slash, begins


async def read(store: ObjectStore, key: str, size: int) -> AsyncIterator[bytes]:
    """An object of `size` bytes, piece by piece; the next is fetched when it is asked for, so a slow reader holds nothing open."""
    for start in range(0, size, PIECE_BYTES):
        piece = await store.get_part(key, start, min(PIECE_BYTES, size - start))
        if len(piece) < min(PIECE_BYTES, size - start):
            raise Unavailable("an object is shorter than it was")
        yield piece


async def gathered(pieces: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    """The same bytes in pieces of at least `size`, but for the last."""
    held, length = list[bytes](), 0
    async for piece in pieces:
        held.append(piece)
        length += len(piece)
        if length >= size:
            yield b"".join(held)
            held, length = [], 0
    if held:
        yield b"".join(held)


class Threads:
    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, "objects")

    async def run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    async def close(self) -> None:
        """Calls under way end first; they have time limits of their own."""
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)
