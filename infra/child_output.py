"""Where does what a child says go, and how are its last lines known?

Into a file, onto this process's own output, or aloud: each line behind the child's name, on this process's output.  What is
said aloud goes through a file in memory, never a pipe, so that a slow terminal, a closed one or a supervisor that stands still
cannot hold the child up, and one that dies cannot break it.  Relies on Linux.  Refuses to grow: what was told is given back to
the kernel, and a terminal that stays behind misses lines and is told so.
"""

import ctypes
import fcntl
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Protocol

_TAIL_BYTES = 64 << 10  # a traceback of each of an engine's processes
_TAIL_LINES = 400
_LOOK_S = 0.1  # how late a line is told
_PIECE_BYTES = 64 << 10
_BEHIND_BYTES = 16 << 20  # so much of it waits for a terminal; then lines are left out
_LAST_WORDS_S = 2.0  # a child's end is told after its last lines, unless the terminal is slower than this
_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # fallocate(2)
_STANDARD_OUTPUT = 1


class Output(Protocol):
    """Of one life of a child."""

    descriptor: int | None
    """What the child writes to; None: what this process writes to."""

    def started(self) -> None:
        """The child has its own hold of it."""

    def finish(self) -> tuple[str, ...]:
        """The child is gone: the last lines of this life, once they were told."""


class Inherited:
    descriptor: int | None = None

    def started(self) -> None:
        """There is nothing to let go of."""

    def finish(self) -> tuple[str, ...]:
        return ()


class Logged:
    """Appended to a file."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self.descriptor: int | None = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._begins = os.fstat(self.descriptor).st_size

    def started(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

    def finish(self) -> tuple[str, ...]:
        with self._path.open("rb") as written:
            return _last_lines(written.fileno(), self._begins)


class Aloud:
    """Through a file in memory, which a thread follows."""

    def __init__(self, name: str, to: int = _STANDARD_OUTPUT) -> None:
        self.descriptor: int | None = os.memfd_create(name)
        fcntl.fcntl(self.descriptor, fcntl.F_SETFL, os.O_APPEND)
        self._file = os.open(f"/proc/self/fd/{self.descriptor}", os.O_RDWR)
        self._name, self._to = f"{name:>8}  ".encode(), to
        self._told = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=f"{name}-aloud", daemon=True)

    def started(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None
        self._thread.start()

    def finish(self) -> tuple[str, ...]:
        lines = _last_lines(self._file, 0)
        self._over.set()
        self._thread.join(_LAST_WORDS_S)
        return lines

    def _follow(self) -> None:
        while not self._over.wait(_LOOK_S):
            self._tell_new()
        self._tell_new(to_the_end=True)
        os.close(self._file)

    def _tell_new(self, *, to_the_end: bool = False) -> None:
        while piece := os.pread(self._file, _PIECE_BYTES, self._told):
            whole = len(piece) if to_the_end or len(piece) == _PIECE_BYTES else piece.rfind(b"\n") + 1
            if not whole:
                return
            self._told += whole
            self._tell(piece[:whole])
            self._catch_up()
            _give_back(self._file, self._told - _TAIL_BYTES)

    def _catch_up(self) -> None:
        behind = os.fstat(self._file).st_size - self._told
        if behind > _BEHIND_BYTES:
            self._told += behind - _PIECE_BYTES
            self._tell(b"(lines are left out: they came faster than they could be told)\n")

    def _tell(self, lines: bytes) -> None:
        """In one write, so that the lines of several stay whole.  A terminal that is gone is no reason to stop the child."""
        named = b"".join(self._name + line + b"\n" for line in lines.splitlines() if line.strip())
        with suppress(OSError):
            while named:
                named = named[os.write(self._to, named) :]


def output_of(name: str, log: Path | None, *, aloud: bool) -> Output:
    if aloud:
        return Aloud(name)
    return Inherited() if log is None else Logged(log)


def _last_lines(file: int, begins: int) -> tuple[str, ...]:
    size = os.fstat(file).st_size
    start = max(begins, size - _TAIL_BYTES)
    written = os.pread(file, size - start, start)
    return tuple(written.decode(errors="replace").splitlines()[-_TAIL_LINES:])


def _give_back(file: int, up_to: int) -> None:
    """The memory of what was told; the file keeps its size, so that its writer's place stays right."""
    if up_to > 0:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.fallocate(file, _PUNCH_HOLE | _KEEP_SIZE, ctypes.c_long(0), ctypes.c_long(up_to))
