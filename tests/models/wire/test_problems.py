"""Is a fault found where it stands?  What pydantic finds is told in `test_chat`; here is what is looked for beside it."""

import pytest

from models.wire.problems import nul_in

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
