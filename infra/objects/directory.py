"""How does a directory keep what a store promises?

An object is a file: written aside, synced, then renamed into place (or linked, which never replaces), and its folder synced.
Relies on a local file system with hard links, which is tried out at start.  The root is closed to other users.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice, takewhile
from pathlib import Path
from uuid import uuid4

from infra.objects.store import NAME, PIECE_BYTES, Threads, checked, checked_prefix, gathered
from models.errors import Conflict, NotFound, Unavailable

Place = Callable[[Path, Path], None]

_PAGE_KEYS = 1000  # as many as S3 lists at a time
_STAGING = ".staging"  # no key begins with a dot
_STALE_S = 3600  # no write pauses for an hour: what has lain that long was left by a process that died
_ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


class DirectoryStore:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._staging = root / _STAGING
        self._threads = Threads()

    async def open(self) -> None:
        await self._threads.run(self._prepare)

    async def close(self) -> None:
        await self._threads.close()

    async def put(self, key: str, data: bytes) -> None:
        await self._threads.run(partial(self._write, checked(key), data, os.replace))

    async def put_new(self, key: str, data: bytes) -> bool:
        return await self._threads.run(partial(self._write, checked(key), data, os.link))

    async def put_stream(self, key: str, pieces: AsyncIterator[bytes]) -> int:
        target, staged = self._root / checked(key), self._staging / uuid4().hex
        try:
            async for piece in gathered(pieces, PIECE_BYTES):
                await self._threads.run(partial(_append, staged, piece))
            return await self._threads.run(partial(_place, staged, target))
        finally:
            await asyncio.shield(self._threads.run(partial(_drop, staged)))

    async def get(self, key: str) -> bytes:
        return await self._threads.run(partial(self._read, checked(key), 0, -1))

    async def get_part(self, key: str, start: int, size: int) -> bytes:
        return await self._threads.run(partial(self._read, checked(key), start, size))

    async def delete(self, key: str) -> None:
        await self._threads.run(partial(self._remove, checked(key)))

    async def list(self, prefix: str) -> AsyncIterator[str]:
        stem, begins = checked_prefix(prefix)
        keys = _walk(self._root / stem, stem, begins)
        while page := await self._threads.run(partial(_page, keys)):
            for key in page:
                yield key

    def _prepare(self) -> None:
        with _os_faults():
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)  # conversations are nobody else's to read
            self._staging.mkdir(exist_ok=True)
            for left in self._staging.iterdir():
                if time.time() - left.stat().st_mtime > _STALE_S:
                    left.unlink(missing_ok=True)
            with _staged(self._staging, b"") as probe:
                linked = probe.with_suffix(".probe")
                os.link(probe, linked)  # some network and USB file systems cannot
                linked.unlink()

    def _write(self, key: str, data: bytes, place: Place) -> bool:
        target = self._root / key
        with _os_faults(), _staged(self._staging, data) as staged:
            _make_folder(target)
            try:
                place(staged, target)
            except FileExistsError:
                return False
            finally:
                _sync(target.parent)  # when the key was taken too: its writer may not have come so far
        return True

    def _read(self, key: str, start: int, size: int) -> bytes:
        with _os_faults():
            try:
                with (self._root / key).open("rb") as file:
                    file.seek(start)
                    return file.read(size)
            except _ABSENT as fault:
                raise NotFound(f"there is no object {key}") from fault

    def _remove(self, key: str) -> None:
        target = self._root / key
        with _os_faults():
            try:
                target.unlink()
            except _ABSENT:
                return
            _sync(target.parent)


@contextmanager
def _os_faults() -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        raise Unavailable(f"the objects' directory fails: {fault.strerror}") from fault


def _append(staged: Path, piece: bytes) -> None:
    with _os_faults(), staged.open("ab") as file:
        file.write(piece)


def _drop(staged: Path) -> None:
    with _os_faults():
        staged.unlink(missing_ok=True)


def _place(staged: Path, target: Path) -> int:
    """What was written aside gets its name, once it is on the disk."""
    with _os_faults():
        with staged.open("ab") as file:
            os.fsync(file.fileno())
            size = file.tell()
        _make_folder(target)
        staged.replace(target)
        _sync(target.parent)
    return size


@contextmanager
def _staged(folder: Path, data: bytes) -> Iterator[Path]:
    """`data` in a file that is on the disk, for as long as it takes to give it its name."""
    staged = folder / uuid4().hex
    try:
        with staged.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield staged
    finally:
        staged.unlink(missing_ok=True)


def _make_folder(target: Path) -> None:
    missing = tuple(takewhile(lambda folder: not folder.is_dir(), target.parents))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as fault:
        raise Conflict("a key cannot be a folder of other keys") from fault
    if target.is_dir():
        raise Conflict("a key cannot be a folder of other keys")
    for folder in missing:
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    """A name is on the disk when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _walk(folder: Path, stem: str, begins: str = "") -> Iterator[str]:
    for name, is_folder in _entries(folder, begins):
        if is_folder:
            yield from _walk(folder / name, f"{stem}{name}/")
        else:
            yield stem + name


def _entries(folder: Path, begins: str) -> Sequence[tuple[str, bool]]:
    """What a key can name in a folder, in the order of the keys: a slash follows a folder's name, and sorts."""
    try:
        with os.scandir(folder) as found:
            named = [(e.name, e.is_dir(follow_symlinks=False)) for e in found if e.name.startswith(begins)]
    except _ABSENT:
        return ()
    return sorted((each for each in named if NAME.fullmatch(each[0])), key=lambda each: each[0] + "/" * each[1])


def _page(keys: Iterator[str]) -> Sequence[str]:
    with _os_faults():
        return tuple(islice(keys, _PAGE_KEYS))
