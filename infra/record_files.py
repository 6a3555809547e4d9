"""Which records are in a file of JSON?  A line each, or the elements of one array; told one by one, with the line they begin in.

The file is read in pieces, so it may be of any size; one record may not.  Records are cut out, not parsed.
"""

import re
from collections.abc import Generator
from itertools import count
from typing import BinaryIO

from models.errors import InvalidRequest, TooLarge

_PIECE_BYTES = 64 << 10
_TOKEN = re.compile(rb'["{}\[\]]|\\.', re.DOTALL)
_OPENING, _CLOSING = (b"{", b"["), (b"}", b"]")
_BETWEEN = b" \t\r\n,[]\xef\xbb\xbf"
_IN_ELEMENT = 2
"""The depth: in the array, and in one of its elements."""
Cut = tuple[int, bytes]
"""The line, from 1, and the record."""


def records_in(file: BinaryIO, most_bytes: int) -> Generator[Cut, None, None]:
    """Raises TooLarge, InvalidRequest; each names the line."""
    begin = file.read(_PIECE_BYTES).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    file.seek(0)
    return _elements(file, most_bytes) if begin == b"[" else _lines(file, most_bytes)


def _lines(file: BinaryIO, most_bytes: int) -> Generator[Cut, None, None]:
    for number in count(1):
        line = file.readline(most_bytes + 2)
        if not line:
            return
        _check_size(line, number, most_bytes)
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line.strip():
            yield number, line


def _elements(file: BinaryIO, most_bytes: int) -> Generator[Cut, None, None]:
    array = _Array()
    while piece := _read(file):
        yield from array.cut(piece)
        _check_size(array.held, array.began, most_bytes)
    if array.depth or array.quoted:
        raise InvalidRequest(f"line {array.began}: the array breaks off", param="body", code="invalid_json")


class _Array:
    """What has been read of one so far, but for the elements that were cut out."""

    def __init__(self) -> None:
        self.depth, self.quoted, self.began = 0, False, 1
        self.held = bytearray()
        """Of the element that is not whole yet."""
        self._line = 1

    def cut(self, piece: bytes) -> Generator[Cut, None, None]:
        start, outside = (0, len(piece)) if self.depth > 1 else (len(piece), 0)
        counted = 0
        for token in _TOKEN.finditer(piece):
            step = self._step(token[0])
            if step == 1 and self.depth == _IN_ELEMENT:
                start = token.start()
                self._line, counted = self._line + piece.count(b"\n", counted, start), start
                self.began = self._line
                _check_outside(piece[outside:start], self._line)
            elif step == -1 and self.depth == _IN_ELEMENT - 1:
                yield self.began, bytes(self.held + piece[start : token.end()])
                self.held.clear()
                start, outside = len(piece), token.end()
        self.held += piece[start:]
        self._line += piece.count(b"\n", counted)
        if self.depth < _IN_ELEMENT:
            _check_outside(piece[outside:], self._line)

    def _step(self, mark: bytes) -> int:
        """Inwards, outwards, or neither."""
        if self.quoted or mark == b'"':
            self.quoted = (mark == b'"') != self.quoted
            return 0
        step = 1 if mark in _OPENING else -1 if mark in _CLOSING else 0
        self.depth += step
        return step


def _read(file: BinaryIO) -> bytes:
    """A piece that does not end between a backslash and what it escapes."""
    piece = file.read(_PIECE_BYTES)
    while piece.endswith(b"\\") and (more := file.read(1)):
        piece += more
    return piece


def _check_outside(text: bytes, line: int) -> None:
    """What stands between records, up to `line`."""
    if more := text.lstrip(_BETWEEN):
        line -= more.count(b"\n")
        raise InvalidRequest(f"line {line}: what stands there is no record", param=f"line {line}", code="invalid_json")


def _check_size(held: bytes | bytearray, line: int, most_bytes: int) -> None:
    if len(held) > most_bytes + 1:
        raise TooLarge(f"line {line}: a record has at most {most_bytes} bytes", param=f"line {line}")
