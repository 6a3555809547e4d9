"""Is a form read as it comes, in whatever pieces, and is every bad one refused with the name of what is wrong?"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.multipart import AROUND_BYTES, FIELD_BYTES, FIELDS_MOST, Form
from models.errors import InvalidRequest, TooLarge

MOST = 1000
FILE = b'Content-Disposition: form-data; name="file"; filename="rows.jsonl"\r\nContent-Type: application/jsonl'


def part(head: bytes, body: bytes) -> bytes:
    return b"--B\r\n" + head + b"\r\n\r\n" + body + b"\r\n"


def field(name: str, value: str) -> bytes:
    return part(f'Content-Disposition: form-data; name="{name}"'.encode(), value.encode())


async def told(body: bytes, size: int = 100_000, most: int = MOST) -> tuple[Form, bytes]:
    async def coming():
        for start in range(0, len(body), size):
            yield body[start : start + size]

    form = Form(b"B", coming(), most)
    return form, b"".join([piece async for piece in form.pieces()])


async def fault(body: bytes, kind: type[InvalidRequest] = InvalidRequest, **more: int) -> str | None:
    with pytest.raises(kind) as caught:
        await told(body, **more)
    assert caught.value.message
    return caught.value.param


WHOLE = field("purpose", "batch") + part(FILE, b'{"a":\r\n--B-not}\r\n') + field("expires_after[seconds]", "3600")
END = b"--B--\r\n"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
async def test_in_whatever_pieces_it_comes(size):
    form, data = await told(WHOLE + END, size)
    assert data == b'{"a":\r\n--B-not}\r\n'
    assert (form.filename, form.fields) == ("rows.jsonl", {"purpose": "batch", "expires_after[seconds]": "3600"})


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200).filter(lambda data: b"\r\n--B" not in data), size=st.integers(1, 50))
async def test_any_bytes_come_as_they_were(data, size):
    assert (await told(part(FILE, data) + END, size))[1] == data


async def test_the_last_line_may_lack_its_end():
    assert (await told(part(FILE, b"x") + b"--B--"))[1] == b"x"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", "body"),
        (b"no form at all", "body"),
        (END, "file"),
        (field("purpose", "batch") + END, "file"),
        (WHOLE + b"--", "expires_after[seconds]"),
        (WHOLE[:-30], "body"),
        (field("purpose", "batch") + part(FILE, b"x" * 50)[:-30], "file"),
        (part(b"Content-Type: text/plain", b"x") + END, "body"),
        (part(b'Content-Disposition: form-data; name=""', b"x") + END, "body"),
        (part(b'Content-Disposition: form-data; name="file"', b"x") + END, "file"),
        (part(b'Content-Disposition: form-data; name="other"; filename="x"', b"x") + END, "other"),
        (part(FILE, b"x") + part(FILE, b"y") + END, "file"),
        (part(FILE.replace(b"rows.jsonl", b"x" * 256), b"x") + END, "file"),
        (part(FILE.replace(b"rows.jsonl", b"a\x00b"), b"x") + END, "file"),
        (field("purpose", "a") + field("purpose", "b") + END, "purpose"),
        (b"".join(field(f"f{number}", "x") for number in range(FIELDS_MOST + 1)) + END, f"f{FIELDS_MOST}"),
        (field("purpose", "x" * (FIELD_BYTES + 1)) + END, "purpose"),
        (part(b'Content-Disposition: form-data; name="purpose"', b"\xff") + END, "purpose"),
    ],
)
async def test_a_bad_form_is_refused_by_name(body, param):
    assert await fault(body) == await fault(body, size=5) == param


async def test_a_file_may_have_so_many_bytes_and_no_more():
    assert len((await told(part(FILE, b"x" * MOST) + END))[1]) == MOST
    assert await fault(part(FILE, b"x" * (MOST + 1)) + END, TooLarge) == "file"


async def test_nobody_sends_for_ever_beside_the_file():
    head = b"Content-Disposition: form-data; name=x\r\n" + b"X: y\r\n" * 5
    assert await fault(part(FILE, b"") + b"--B--" + b"x" * (3 * AROUND_BYTES), TooLarge, size=1000) == "body"
    assert await fault(part(head * 1000, b"x"), InvalidRequest, size=1000) == "body"


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (b"../../etc/passwd", "passwd"),
        (b"C:\\\\Users\\\\ada\\\\rows.jsonl", "rows.jsonl"),
        ("Grüße.jsonl".encode(), "Grüße.jsonl"),
        (b"/", "file"),
    ],
)
async def test_of_a_path_the_name_is_kept(sent, kept):
    form, _ = await told(part(FILE.replace(b"rows.jsonl", sent), b"x") + END)
    assert form.filename == kept
