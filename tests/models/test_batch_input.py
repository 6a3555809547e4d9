"""Is every line of a batch's file read, told apart and judged, with its number, and is little of it kept?"""

import json
import tracemalloc

import pytest

from models import batch_input
from models.batch_input import CHATS, ERRORS_MOST, TEXTS, Input

MOST = 1000


def line(name: str = "a", url: str = CHATS, **body: object) -> bytes:
    told = {"messages": [{"role": "user", "content": "hello"}]} | body
    return json.dumps({"custom_id": name, "method": "POST", "url": url, "body": told}).encode()


def looked(*lines: bytes, endpoint: str = CHATS) -> Input:
    reading = Input(endpoint, MOST)
    reading.look(lines)
    reading.end()
    return reading


def codes(*lines: bytes) -> list[tuple[int | None, str]]:
    return [(error["line"], error["code"]) for error in looked(*lines).errors]


def test_good_lines_have_no_errors_and_a_key_each():
    reading = looked(line("a"), b"", line("b"), b"   \r", line("c"))
    assert (reading.errors, len(reading.keys)) == ([], 3)


def test_a_byte_order_mark_and_ends_of_another_system_are_overlooked():
    assert codes(b"\xef\xbb\xbf" + line("a") + b"\r", line("b") + b"\r") == []


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b"{", "invalid_json_line"),
        (b"null", "invalid_json_line"),
        (b'{"custom_id": NaN}', "invalid_json_line"),
        (b"\xff", "invalid_json_line"),
        (b"{}", "missing_required_parameter"),
        (line(""), "invalid_custom_id"),
        (line("a\0"), "invalid_custom_id"),
        (line("x" * 513), "invalid_custom_id"),
        (line().replace(b'"POST"', b'"GET"'), "invalid_method"),
        (line().replace(b'"body": {', b'"body": [], "x": {'), "invalid_body"),
        (line(url="/v1/embeddings"), "invalid_url"),
        (line(user="x" * (MOST + batch_input.AROUND_BYTES)), "line_too_long"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(bad, code):
    found = codes(line("first"), bad, line("last"))
    assert found[0] == (2, code)
    assert all(number == 2 for number, _ in found)


def test_names_are_told_apart():
    assert codes(line("a"), line("b"), line("a"), line("a")) == [(3, "duplicate_custom_id"), (4, "duplicate_custom_id")]


def test_so_many_errors_are_told_and_no_more():
    reading = looked(*[b"x"] * (ERRORS_MOST + 50))
    assert (len(reading.errors), reading.over) == (ERRORS_MOST, True)


def test_a_file_has_so_many_rows_and_no_more(monkeypatch):
    monkeypatch.setattr(batch_input, "ROWS_MOST", 3)
    lines = [line(str(number)) for number in range(4)]
    assert codes(*lines[:3]) == []
    assert codes(*lines) == [(None, "too_many_tasks")]
    assert codes() == [(None, "empty_file")]


def test_rows_are_made_in_their_places_and_bad_requests_have_their_reason():
    lines = [line("a"), b"", line("b", stream=True), line("c", text="a\0b"), line("d", n=2**70)]
    reading = Input(CHATS, MOST)
    first, second, third, fourth = [*reading.rows(lines[:2], [3, 2, 1, 0]), *reading.rows(lines[2:], [3, 2, 1, 0])]
    assert (first.number, first.place, first.name, first.error) == (0, 3, "a", None)
    assert first.body == {"messages": [{"role": "user", "content": "hello"}]}
    assert [(row.number, row.place, row.body) for row in (second, third, fourth)] == [
        (1, 2, None),
        (2, 1, None),
        (3, 0, None),
    ]
    assert [row.error["param"] for row in (second, third, fourth)] == ["stream", "text", "n"]


def test_a_row_too_deep_for_any_encoder_is_refused_by_itself():
    deep = line("deep").replace(b'"hello"', b"[" * 300 + b"]" * 300)
    assert codes(line("a"), deep, line("b")) == []
    good, bad = Input(CHATS, MOST).rows([line("a"), deep], [0, 1])
    assert good.error is None
    assert (bad.body, bad.error["code"]) == (None, "invalid_json")


def test_a_texts_row_becomes_a_chats():
    raw = json.dumps({"custom_id": "a", "method": "POST", "url": TEXTS, "body": {"prompt": "once"}}).encode()
    bad = json.dumps({"custom_id": "b", "method": "POST", "url": TEXTS, "body": {"messages": []}}).encode()
    good, wrong = Input(TEXTS, MOST).rows([raw, bad], [0, 1])
    assert good.body == {"messages": [{"role": "user", "content": "once"}], "max_tokens": 16, "raw": True}
    assert wrong.error["param"] == "messages"


def test_what_is_kept_of_a_row_is_small():
    reading, rows = Input(CHATS, 1 << 20), 2000
    tracemalloc.start()
    for number in range(rows):
        reading.look([line(f"row {number}", user="x" * 50_000)])
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(reading.keys) == rows
    assert kept / rows < 500, "bytes a row, of 50,000"
