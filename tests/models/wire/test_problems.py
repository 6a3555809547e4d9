"""Is a fault found where it stands?  What pydantic finds is told in `test_chat`; here is what is looked for beside it."""

import json
import time

import orjson
import pytest

from models.wire.problems import half_in, nul_in, rounded_in

USER = {"role": "user", "content": "hello"}
TEXT = {"type": "text", "text": "hello"}


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ("a\0", "body"),
        ({"model": "m\0"}, "model"),
        ({"messages": [USER, {"role": "user", "content": "\0"}]}, "messages[1].content"),
        ({"messages": [{"content": [TEXT, {"type": "text", "text": "a\0b"}]}]}, "messages[0].content[1].text"),
        ({"metadata": {"a\0": "b"}}, "metadata"),
        ({"a\0": "b"}, "body"),
        ([["x"], ["\0"]], "[1][0]"),
        ({"stop": ["x", 1, None, 1.5, True]}, None),
        ({"a": {}, "b": []}, None),
    ],
)
def test_a_nul_character_is_found_wherever_it_stands(value, where):
    assert nul_in(value) == where


@pytest.mark.parametrize(
    ("raw", "where"),
    [
        (rb'{"messages":[{"role":"user","content":"\ud800"}]}', "messages[0].content"),
        (rb'{"metadata":{"a":"\uDE00\uD83E"}}', "metadata.a"),
        (rb'{"metadata":{"\ud83e":""}}', "metadata"),
        (rb'{"messages":"\ud83e\udd84"}', None),
        (rb'{"messages":"\ud83e"', None),
        (b"[" * 100_000 + rb'"\ud800"' + b"]" * 100_000, None),
    ],
    ids=range(6),
)
def test_half_a_surrogate_pair_is_found_in_what_is_json_but_for_it(raw, where):
    assert half_in(raw) == where


@pytest.mark.parametrize(
    ("number", "is_lost"),
    [(2**64 - 1, False), (-(2**63), False), (2**64, True), (-(2**63) - 1, True), (1e25, False), (0.5, False)],
)
def test_an_integer_that_would_be_rounded_is_found(number, is_lost):
    raw = json.dumps({"tools": [{"function": {"parameters": {"default": [number]}}}]}).encode()
    where = "tools[0].function.parameters.default[0]" if is_lost else None
    assert rounded_in(raw, orjson.loads(raw)) == where


CPU_S = 2.0
LONG = "k" * 1_000_000


@pytest.mark.parametrize("value", ["\0", 1e300], ids=["NUL", "a great number"])
def test_a_long_key_is_not_copied_for_all_that_is_below_it(value):
    """What follows is sought by its place: a body of 4 MB had room for a million places of a megabyte each."""
    body = {LONG: list(range(100_000)), "z": value}
    began = time.thread_time()
    assert nul_in(body) == ("z" if value == "\0" else None)
    assert rounded_in(orjson.dumps(body), body) is None
    assert time.thread_time() - began < CPU_S
