"""How many tokens does Mistral Small 3.1 read an image as?

A square of 28 pixels is one, each row ends with one more, and what is longer than 1,540 pixels is made smaller first: as transformers'
Pixtral processor does it for SGLang, rounding down (mistral-common rounds to the nearest).  Width and height are read from the
file's header, and nothing is unpacked, so that a small file cannot claim much memory here.  Orientation in EXIF is not looked at:
SGLang turns no image for this model.  Refuses, by its place in the request, an image that does not say how large it is, or of
which nothing would be left.
"""

import binascii
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from models.errors import InvalidRequest
from models.wire.images import image_parts

_LONGEST_EDGE = 1540  # pixels
_SQUARE = 28  # pixels a side: a patch of 14, and two by two of them merged

_PNG, _JPEG, _GIF, _RIFF = b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"GIF8", b"RIFF"
_BEGINS = b"\xff"
"""Each of JPEG's markers, and the bytes that may fill the place before one."""
_FRAMES = frozenset(bytes([marker]) for marker in range(0xC0, 0xD0) if marker not in (0xC4, 0xC8, 0xCC))
"""Markers of a frame, which has the size; those left out mean tables and an extension."""
_SEGMENTS_MOST = 4096  # before the frame; a colour profile of 16 MB has 255
_BITS_14 = 0x3FFF  # of a width or height in WebP

Size = tuple[int, int]


def tokens_of_images(messages: Sequence[Mapping[str, Any]]) -> Iterator[int]:
    """Each image's.  Raises InvalidRequest."""
    for where, part in image_parts(messages):
        size = _size(binascii.a2b_base64(part["image_url"]["url"].partition(",")[2]))
        if size is None or not all(size):
            raise InvalidRequest("the image does not say how wide and how high it is", param=f"{where}.image_url.url")
        if min(size) * _LONGEST_EDGE < max(size):  # nothing would be left of the shorter side
            raise InvalidRequest(
                f"the image is over {_LONGEST_EDGE} times as long as wide", param=f"{where}.image_url.url"
            )
        yield image_tokens(*size)


def image_tokens(width: int, height: int) -> int:
    ratio = max(width / _LONGEST_EDGE, height / _LONGEST_EDGE)
    if ratio > 1:
        width, height = math.floor(width / ratio), math.floor(height / ratio)
    columns, rows = ((pixels - 1) // _SQUARE + 1 for pixels in (width, height))
    return rows * (columns + 1)


def _size(image: bytes) -> Size | None:
    """Width and height."""
    if image.startswith(_PNG):
        return _pair(image, 16, 4, "big")
    if image.startswith(_GIF):
        return _pair(image, 6, 2, "little")
    if image.startswith(_RIFF):
        return _webp(image)
    return _jpeg(image) if image.startswith(_JPEG) else None


def _pair(image: bytes, at: int, width: int, order: Literal["big", "little"]) -> Size | None:
    """Two numbers of `width` bytes each."""
    found = image[at : at + 2 * width]
    if len(found) < 2 * width:
        return None
    return int.from_bytes(found[:width], order), int.from_bytes(found[width:], order)


def _jpeg(image: bytes) -> Size | None:
    """Segment by segment up to the frame's."""
    at = len(_JPEG)
    for _ in range(_SEGMENTS_MOST):
        if image[at : at + 1] != _BEGINS:
            return None
        marker = image[at + 1 : at + 2]
        if marker in _FRAMES:
            size = _pair(image, at + 5, 2, "big")
            return size and size[::-1]
        at += 1 if marker == _BEGINS else 2 + _length(image, at + 2)
    return None


def _length(image: bytes, at: int) -> int:
    """Of a segment, its own two bytes included."""
    return max(int.from_bytes(image[at : at + 2], "big"), 2)


def _webp(image: bytes) -> Size | None:
    """Its three kinds: extended, lossless and lossy."""
    kind = image[12:16]
    if kind == b"VP8X":
        size = _pair(image, 24, 3, "little")
        return size and (size[0] + 1, size[1] + 1)
    if kind == b"VP8L" and len(image) >= 25:  # noqa: PLR2004 - where the numbers end
        bits = int.from_bytes(image[21:25], "little")
        return (bits & _BITS_14) + 1, (bits >> 14 & _BITS_14) + 1
    size = _pair(image, 26, 2, "little") if kind == b"VP8 " else None
    return size and (size[0] & _BITS_14, size[1] & _BITS_14)
