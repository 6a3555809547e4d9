"""Is an image that was sent one that a model may be shown?  Only images that travel with the request are, as `data:` URLs.

An address would have to be fetched by somebody on our side of the wall, for each attempt anew, and a replay years later would find
another picture or none.  So addresses are refused in words, and an image is part of the message like its text: byte for byte what
the engine gets, once in the transcript however often the turn is sent again.
"""

import binascii
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from models.errors import InvalidRequest

IMAGES_MOST = 32
"""More pictures than this fill any context; the bytes of all are bounded by the body's."""
_SIGNATURES = {
    "image/png": (b"\x89PNG\r\n\x1a\n", b""),
    "image/jpeg": (b"\xff\xd8\xff", b""),
    "image/gif": (b"GIF8", b""),
    "image/webp": (b"RIFF", b"WEBP"),
}
"""How a file of the kind begins, and what stands 8 bytes in."""
_CODE = "unsupported_content_type"


def image_parts(messages: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each image's place and part."""
    for number, message in enumerate(messages):
        content = message.get("content")
        if isinstance(content, list):
            places = ((f"messages[{number}].content[{place}]", part) for place, part in enumerate(content))
            yield from ((where, part) for where, part in places if part["type"] == "image_url")


def check_images(messages: Sequence[Mapping[str, Any]]) -> None:
    """Raises InvalidRequest that names the image which is none, or the one too many."""
    for count, (where, part) in enumerate(image_parts(messages), 1):
        if count > IMAGES_MOST:
            raise InvalidRequest(f"at most {IMAGES_MOST} images are taken", param=where)
        _check(part["image_url"]["url"], f"{where}.image_url.url")


def _check(url: str, where: str) -> None:
    if not url.startswith("data:"):
        raise InvalidRequest(
            "images are not fetched: send it in the request, as data:image/png;base64,...", param=where
        )
    kind, comma, data = url.removeprefix("data:").partition(";base64,")
    if not comma or kind not in _SIGNATURES:
        kinds = ", ".join(_SIGNATURES)
        raise InvalidRequest(f"an image is data:<kind>;base64,<data>, of {kinds}", param=where, code=_CODE)
    try:
        image = binascii.a2b_base64(data.encode(), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        raise InvalidRequest("the image is not valid base64", param=where) from None
    begins, inside = _SIGNATURES[kind]
    if not (image.startswith(begins) and image[8:].startswith(inside)):
        raise InvalidRequest(f"these are not the bytes of an {kind} file", param=where, code=_CODE)
