"""An address stands for what lies there: brought once, bounded in every way, and refused in words that tell nothing of our side."""

import asyncio
import base64
from ipaddress import ip_network

import pytest

from infra.images import ALL_MOST_BYTES, EACH_MOST_BYTES, Images
from models.errors import InvalidRequest
from tests.fakes.receiver import HANG, Receiver, Reply
from tests.infra.conftest import LOOPBACK, calling

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40
JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 40
ICON = b"\0\0\1\0" + bytes(range(64))
TEXT = {"type": "text", "text": "What is this?"}
SYSTEM = {"role": "system", "content": "Look."}


@pytest.fixture
async def brought():
    async with calling(LOOPBACK) as client:
        yield Images(client, within_s=2).brought


def image(url, **more):
    return {"type": "image_url", "image_url": {"url": url, **more}}


def asked(*parts):
    return [SYSTEM, {"role": "user", "content": [TEXT, *parts]}]


def inline(kind, data):
    return f"data:image/{kind};base64," + base64.b64encode(data).decode()


async def refused(brought, *urls):
    with pytest.raises(InvalidRequest) as caught:
        await brought(asked(*map(image, urls)))
    assert caught.value.own_code == "invalid_image_url"
    return caught.value


@pytest.mark.parametrize(("kind", "data"), [("png", PNG), ("jpeg", JPEG), ("x-icon", ICON)])
async def test_the_picture_takes_its_addresses_place(brought, receiver, kind, data):
    """Its kind is what its bytes tell, whatever its server says."""
    receiver.script(Reply(200, data, headers={"Content-Type": "text/plain"}))
    sent = asked(image(receiver.url, detail="low"))
    assert await brought(sent) == asked(image(inline(kind, data), detail="low"))
    assert sent == asked(image(receiver.url, detail="low")), "what the caller sent is as it was"


async def test_what_names_no_address_is_left_alone():
    messages = asked(image(inline("png", PNG)))
    assert await Images(None).brought(messages) is messages


async def test_an_address_named_twice_is_asked_once_and_several_each(brought, receiver):
    receiver.script(*[Reply(200, PNG)] * 6)
    urls = [f"{receiver.url}?{number}" for number in (1, 2, 3, 1, 4, 5, 6)]
    messages = [*asked(*map(image, urls[:3])), *asked(*map(image, urls[3:]))]
    found = await brought(messages)
    assert len(receiver.seen) == 6
    shown = [part["image_url"]["url"] for message in found[1::2] for part in message["content"][1:]]
    assert shown == [inline("png", PNG)] * 7


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(200, b"<html>"), "is none of image/png"),
        (Reply(200, b""), "is none of"),
        (Reply(404, PNG), "answered 404"),
        (Reply(500), "answered 500"),
        (Reply(206, PNG), "answered 206"),
        (Reply(304), "answered 304"),
        (Reply(200, PNG + b"\0" * EACH_MOST_BYTES), "too large"),
        (HANG, "in time"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_is_no_picture_names_its_place(receiver, reply, words):
    receiver.script(Reply(200, PNG), reply)
    async with calling(LOOPBACK) as client:
        one = Images(client, within_s=0.5 if reply is HANG else 10)
        await one.brought(asked(image(receiver.url)))
        error = await refused(one.brought, inline("png", PNG), receiver.url)
    assert words in error.message
    assert error.param == "messages[1].content[2].image_url.url"


async def test_all_together_have_a_bound(brought, receiver):
    third = PNG + b"\0" * (ALL_MOST_BYTES // 3)
    receiver.script(Reply(200, third), Reply(200, third), Reply(200, third))
    urls = [f"{receiver.url}?{number}" for number in range(3)]
    await brought(asked(*map(image, urls[:2])))
    receiver.script(Reply(200, third), Reply(200, third))
    assert "too large" in (await refused(brought, *urls)).message


async def test_a_picture_counts_as_often_as_it_is_shown(brought, receiver):
    """It is fetched once, and stands in the messages that are kept and sent as often as it is named."""
    receiver.script(*[Reply(200, PNG + b"\0" * (ALL_MOST_BYTES // 3))] * 2)
    await brought(asked(*[image(receiver.url)] * 2))
    assert "too large" in (await refused(brought, *[receiver.url] * 4)).message


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.2:1/",
        "http://10.0.0.1/a.png",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "http://2130706433/",
        "http://localhost/",
        "http://nothing.invalid/",
        "http://user:secret@127.0.0.1/",
        "https://" + "a" * 3000,
        "http://",
        "https://127.0.0.1\\@example.com/",
    ],
)
async def test_what_may_not_or_cannot_be_called_reads_alike(url):
    async with calling((ip_network("127.0.0.1/32"),)) as client:
        error = await refused(Images(client).brought, url)
    assert error.message == "the image cannot be fetched from here"


async def test_a_redirect_is_followed_but_to_no_private_address(receiver):
    async with Receiver(host="127.0.0.2") as private, calling((ip_network("127.0.0.1/32"),)) as client:
        receiver.script(Reply(301, headers={"Location": receiver.url}), Reply(200, PNG))
        assert await Images(client).brought(asked(image(receiver.url))) == asked(image(inline("png", PNG)))
        receiver.script(Reply(301, headers={"Location": private.url}))
        error = await refused(Images(client).brought, receiver.url)
        assert error.message == "the image cannot be fetched from here"
        assert private.seen == []


async def test_one_that_fails_calls_the_others_back(brought, receiver):
    receiver.script(*[HANG] * 3, Reply(404))
    error = await refused(brought, *[f"{receiver.url}?{number}" for number in range(4)])
    assert "404" in error.message
    assert len(receiver.seen) == 4


async def test_a_request_of_many_does_not_take_every_place(receiver):
    """While one waits for four silent servers, another one's picture comes."""
    async with calling(LOOPBACK) as client, Receiver(host="127.0.0.2") as silent:
        silent.script(*[HANG] * 40)
        one = Images(client, within_s=10)
        waiting = asyncio.create_task(one.brought(asked(*[image(f"{silent.url}?{number}") for number in range(32)])))
        for _ in range(4):
            await silent.next()
        receiver.script(Reply(200, PNG))
        assert await one.brought(asked(image(receiver.url))) == asked(image(inline("png", PNG)))
        assert len(silent.seen) == 4
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
