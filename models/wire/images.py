"""Is an image that was sent one that a model may be shown?  It travels with the request, as a `data:` URL, or lies at an address.

What lies at an address is fetched once, at the door (`infra.images`), and stands in the message as a `data:` URL from then on: fetched
for each attempt anew, it would be somebody else's choice what a replay years later is shown.  So an image is part of the message like
its text: byte for byte what the engine gets, once in the transcript however often the turn is sent again.
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
    "image/x-icon": (b"\0\0\1\0", b""),
}
"""How a file of the kind begins, and what stands 8 bytes in."""
KINDS = ", ".join(_SIGNATURES)
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


def is_address(url: str) -> bool:
    return url[:8].lower().startswith(("http://", "https://"))


def kind_of(image: bytes) -> str | None:
    """As its first bytes tell."""
    return next((kind for kind in _SIGNATURES if _is_of(kind, image)), None)


def _check(url: str, where: str) -> None:
    if is_address(url):
        return
    if not url.startswith("data:"):
        raise InvalidRequest("an image is an http(s) address or data:<kind>;base64,<data>", param=where)
    kind, comma, data = url.removeprefix("data:").partition(";base64,")
    if not comma or kind not in _SIGNATURES:
        raise InvalidRequest(f"an image is data:<kind>;base64,<data>, of {KINDS}", param=where, code=_CODE)
    try:
        image = binascii.a2b_base64(data.encode(), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        raise InvalidRequest("the image is not valid base64", param=where) from None
    if not _is_of(kind, image):
        raise InvalidRequest(f"these are not the bytes of an {kind} file", param=where, code=_CODE)


def _is_of(kind: str, image: bytes) -> bool:
    begins, inside = _SIGNATURES[kind]
    return image.startswith(begins) and image[8:].startswith(inside)
