"""Which records are in a file of JSON?  A line each, or the elements of one array; told one by one, with the line they begin in.

The file is read in pieces, so it may be of any size; one record may not.  Records are cut out, not parsed.
"""

import re
from collections.abc import Iterator
from itertools import count
from typing import BinaryIO

from models.errors import InvalidRequest, TooLarge

_PIECE_BYTES = 64 << 10
_TOKEN = re.compile(rb'["{}\[\]]|\\.', re.DOTALL)
_OPENING, _CLOSING = b"{[", b"}]"
Cut = tuple[int, bytes]
"""The line, from 1, and the record."""


def records_in(file: BinaryIO, most_bytes: int) -> Iterator[Cut]:
    """Raises TooLarge, InvalidRequest; each names the line."""
    begin = file.read(_PIECE_BYTES).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    file.seek(0)
    return _elements(file, most_bytes) if begin == b"[" else _lines(file, most_bytes)


def _lines(file: BinaryIO, most_bytes: int) -> Iterator[Cut]:
    for number in count(1):
        line = file.readline(most_bytes + 2)
        if not line:
            return
        _check_size(line, number, most_bytes)
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line.strip():
            yield number, line


def _elements(file: BinaryIO, most_bytes: int) -> Iterator[Cut]:
    depth, quoted, line, began = 0, False, 1, 1
    held = bytearray()
    while piece := _read(file):
        start = 0 if depth > 1 else len(piece)
        counted = 0
        for token in _TOKEN.finditer(piece):
            mark = token[0]
            if quoted or mark == b'"':
                quoted = mark != b'"' if quoted else True
            elif mark in _OPENING:
                depth += 1
                if depth == 2:  # noqa: PLR2004 -- inside the array
                    start = token.start()
                    line, counted = line + piece.count(b"\n", counted, start), start
                    began = line
            elif mark in _CLOSING:
                depth -= 1
                if depth == 1:
                    yield began, bytes(held + piece[start : token.end()])
                    held.clear()
                    start = len(piece)
        held += piece[start:]
        line += piece.count(b"\n", counted)
        _check_size(held, began, most_bytes)
    if depth or quoted:
        raise InvalidRequest(f"line {began}: the array breaks off", param=f"line {began}", code="invalid_json")


def _read(file: BinaryIO) -> bytes:
    """A piece that does not end between a backslash and what it escapes."""
    piece = file.read(_PIECE_BYTES)
    while piece.endswith(b"\\") and (more := file.read(1)):
        piece += more
    return piece


def _check_size(held: bytes | bytearray, line: int, most_bytes: int) -> None:
    if len(held) > most_bytes + 1:
        raise TooLarge(f"line {line}: a record has at most {most_bytes} bytes", param=f"line {line}")
