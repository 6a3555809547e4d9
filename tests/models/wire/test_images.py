"""An image is taken if it came whole, is what it says, and is one; else its place is told."""

import base64

import pytest

from models.errors import InvalidRequest
from models.wire.images import IMAGES_MOST, check_images, image_parts, is_address, kind_of

FILES = {
    "png": b"\x89PNG\r\n\x1a\n\0\0",
    "jpeg": b"\xff\xd8\xff\xe0",
    "gif": b"GIF89a",
    "webp": b"RIFF\0\0\0\0WEBPVP8 ",
    "x-icon": b"\0\0\1\0\1\0",
}
TEXT = {"type": "text", "text": "What is this?"}
WHERE = "messages[1].content[1].image_url.url"


def url(kind, data=None):
    return f"data:image/{kind};base64," + base64.b64encode(FILES[kind] if data is None else data).decode()


def image(address):
    return {"type": "image_url", "image_url": {"url": address}}


def asked(*addresses):
    return [{"role": "system", "content": "Look."}, {"role": "user", "content": [TEXT, *map(image, addresses)]}]


@pytest.mark.parametrize("kind", FILES)
def test_what_comes_whole_is_taken(kind):
    check_images(asked(url(kind)))
    check_images([{"role": "user", "content": "none"}, {"role": "assistant", "tool_calls": []}])


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("file:///etc/passwd", "an http(s) address"),
        ("/etc/passwd", "an http(s) address"),
        ("", "an http(s) address"),
        ("DATA:image/png;base64,AAAA", "an http(s) address"),
        ("data:image/png,AAAA", "data:<kind>"),
        ("data:;base64,AAAA", "data:<kind>"),
        ("data:image/svg+xml;base64,AAAA", "image/webp"),
        ("data:text/html;base64,AAAA", "image/webp"),
        ("data:image/png;base64,", "not the bytes"),
        (url("png", FILES["gif"]), "not the bytes"),
        (url("webp", b"RIFF\0\0\0\0WAVE"), "not the bytes"),
        (url("png") + "\n", "base64"),
        (url("png")[:-1], "base64"),
        ("data:image/png;base64,ä", "base64"),
        ("data:image/png;base64,\ud800", "base64"),
    ],
)
def test_what_is_none_is_named(address, words):
    with pytest.raises(InvalidRequest) as caught:
        check_images(asked(address))
    assert caught.value.param == WHERE
    assert words in caught.value.message
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("address", ["https://example.com/a.png", "HTTP://169.254.169.254/latest"])
def test_an_address_is_somebody_elses_to_judge(address):
    assert is_address(address)
    check_images(asked(address))
    assert not is_address(url("png"))


def test_a_pictures_kind_is_told_by_how_it_begins():
    assert {kind_of(data) for data in FILES.values()} == {f"image/{kind}" for kind in FILES}
    assert kind_of(b"<svg/>") is None


def test_there_is_an_end_to_how_many():
    check_images(asked(*[url("gif")] * IMAGES_MOST))
    with pytest.raises(InvalidRequest) as caught:
        check_images(asked(*[url("gif")] * (IMAGES_MOST + 1)))
    assert caught.value.param == f"messages[1].content[{IMAGES_MOST + 1}]"


def test_each_image_has_its_place():
    found = list(image_parts([*asked("a"), *asked("b", "c")]))
    assert [where for where, _ in found] == [
        "messages[1].content[1]",
        "messages[3].content[1]",
        "messages[3].content[2]",
    ]
    assert [part["image_url"]["url"] for _, part in found] == ["a", "b", "c"]
