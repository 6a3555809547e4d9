"""What lies at the address that stands for an image?  Fetched once, at the door, and put into the message in the address's place.

From then on the picture itself is what is hashed, kept, sent to the engine and replayed; the same picture at the same address is the
same message.  Relies on `infra.outbound` for which addresses may be called.  An error tells what a caller can mend and nothing of
the network on our side: a private address, a name without one and a closed port all read alike.
"""

import asyncio
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from infra.outbound import Outbound, Reason, Unreachable
from models.errors import InvalidRequest
from models.wire.images import KINDS, image_parts, is_address, kind_of

EACH_MOST_BYTES = 10 << 20
ALL_MOST_BYTES = 20 << 20
"""Of one request: more than its body may have, since it costs the caller's own line nothing.  Base64 makes 27 MiB of it."""
WITHIN_S = 10.0
"""All of one request's together."""
_AT_ONCE = 32  # of all requests: at most 320 MiB on their way
_OF_ONE_AT_ONCE = 4  # so that no single request takes all places
_OK = 200


class Images:
    """One per process."""

    def __init__(self, outbound: Outbound, *, within_s: float = WITHIN_S) -> None:
        self._outbound, self._within_s = outbound, within_s
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def brought(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The messages with every image in them.  Raises InvalidRequest that names one which cannot be had."""
        wanted: dict[str, list[str]] = {}
        for where, part in image_parts(messages):
            if is_address(url := part["image_url"]["url"]):
                wanted.setdefault(url, []).append(f"{where}.image_url.url")
        if not wanted:
            return messages
        found = await self._all(wanted)
        return [_shown(message, found) for message in messages]

    async def _all(self, wanted: Mapping[str, Sequence[str]]) -> dict[str, str]:
        """The `data:` URL of what lies at each address, by the places where it is named."""
        errand = _Errand(self._outbound, self._places, asyncio.get_running_loop().time() + self._within_s)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {url: group.create_task(errand.fetch(url, places)) for url, places in wanted.items()}
        except ExceptionGroup as broken:  # the others are cancelled
            raise broken.exceptions[0] from None
        return {url: task.result() for url, task in tasks.items()}


@dataclass(slots=True)
class _Errand:
    """One request's fetching."""

    outbound: Outbound
    places: asyncio.Semaphore
    until: float
    """By the loop's clock."""
    left_bytes: int = ALL_MOST_BYTES
    own: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_OF_ONE_AT_ONCE))

    async def fetch(self, url: str, named: Sequence[str]) -> str:
        where, times = named[0], len(named)
        try:
            async with asyncio.timeout_at(self.until), self.own, self.places:
                found = await self.outbound.get(url, min(EACH_MOST_BYTES, self.left_bytes // times), WITHIN_S)
        except TimeoutError:
            raise _refusal("did not come in time", where) from None
        except Unreachable as fault:
            late = fault.reason is Reason.TIMEOUT
            raise _refusal("did not come in time" if late else "cannot be fetched from here", where) from None
        if found.status != _OK:
            raise _refusal(f"is not there: its server answered {found.status}", where)
        return await self._as_url(found.body, where, times)

    async def _as_url(self, image: bytes | None, where: str, times: int) -> str:
        """It stands in the messages as often as it is named there."""
        self.left_bytes -= len(image or b"") * times
        if image is None or self.left_bytes < 0:
            most, all_most = EACH_MOST_BYTES >> 20, ALL_MOST_BYTES >> 20
            raise _refusal(f"is too large: one may have {most} MiB, all together {all_most}", where)
        if (kind := kind_of(image)) is None:
            raise _refusal(f"is none of {KINDS}", where)
        return f"data:{kind};base64,{(await asyncio.to_thread(b64encode, image)).decode()}"


def _refusal(why: str, where: str) -> InvalidRequest:
    """OpenAI's code for it."""
    return InvalidRequest(f"the image {why}", param=where, code="invalid_image_url")


def _shown(message: dict[str, Any], found: Mapping[str, str]) -> dict[str, Any]:
    content = message.get("content")
    return message | {"content": [_filled(part, found) for part in content]} if isinstance(content, list) else message


def _filled(part: dict[str, Any], found: Mapping[str, str]) -> dict[str, Any]:
    image = part.get("image_url")
    if image is None or image["url"] not in found:
        return part
    return part | {"image_url": image | {"url": found[image["url"]]}}
