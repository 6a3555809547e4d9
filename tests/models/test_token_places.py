"""Where two answers part is told in tokens, by what was kept of them, and by nothing that is not certain."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.comparison import common_length
from models.token_places import Place, parting


def result(*pieces, tokens=None, logprobs=None, role=True):
    """As a worker keeps it: a chunk that says who speaks, one a piece, one that says it is over."""
    deltas = [{"role": "assistant", "content": ""}] * role + [{"content": piece} for piece in pieces] + [{}]
    chunks = [
        None if delta.get("content") is None and "content" in delta else [{"index": 0, "delta": delta}]
        for delta in deltas
    ]
    told = logprobs and {"content": [{"token": token} for token in logprobs]}
    return {
        "completion": {"choices": [{"logprobs": told}]},
        "chunks": [orjson.dumps(chunk).decode() for chunk in chunks],
        "tokens": tokens or [0] * len(chunks),
    }


def counted(*pieces):
    """One token a chunk; SGLang has made the first when it says who speaks."""
    return result(*pieces, tokens=[1, *range(1, len(pieces) + 1), len(pieces)])


def test_by_the_engines_counts():
    assert parting(counted("The", " red"), counted("The", " blue"), 0) == Place(1, "stream")
    assert parting(counted("a", "b"), counted("c", "b"), 0) == Place(0, "stream")


def test_a_text_that_goes_on_parts_where_the_other_ends():
    assert parting(counted("a", "b"), counted("a", "b", "c"), 0) == Place(2, "stream")


def test_equal_texts_of_other_tokens_part_at_the_token():
    assert parting(counted("foo", "bar"), counted("foob", "az"), 0) == Place(0, "stream")


def test_a_chunk_of_several_tokens_counts_as_many():
    one = result("a", "é", "b", tokens=[1, 1, 3, 4, 4])
    other = result("a", "é", "c", tokens=[1, 1, 3, 4, 4])
    assert parting(one, other, 0) == Place(3, "stream")


def test_a_busy_engines_chunks_hold_more_tokens_and_part_no_sooner():
    slow = result("ab", "cd", "e", tokens=[1, 2, 4, 5, 5])
    assert parting(counted("a", "b", "c", "d", "e"), slow, 0) is None
    assert parting(counted("a", "b", "c", "d", "x"), slow, 0) == Place(4, "stream")
    assert parting(counted("a", "b", "c", "x"), slow, 0) == Place(2, "stream"), "the third is not certain"
    assert parting(counted("a", "b"), slow, 0) == Place(2, "stream")
    other = result("abc", "de", tokens=[1, 3, 5, 5])
    assert parting(slow, other, 0) is None
    longer = result("abc", "de", "f", tokens=[1, 3, 5, 6, 6])
    assert parting(slow, longer, 0) == Place(5, "stream")


@given(st.text("ab", min_size=1, max_size=12), st.text("ab", min_size=1, max_size=12), st.data())
def test_however_streams_are_cut_no_more_is_told_than_is_the_same(one, other, data):
    """A character is a token here."""

    def cut(text):
        places = sorted({*data.draw(st.sets(st.integers(1, len(text)))), len(text)})
        pieces = [text[begin:end] for begin, end in zip([0, *places], places, strict=False)]
        return result(*pieces, tokens=[1, *places, places[-1]])

    found = parting(cut(one), cut(other), 0)
    same = common_length(one, other)
    if one == other:
        assert found is None
    else:
        assert found.token <= same


def test_log_probabilities_are_tokens_themselves():
    assert parting(result("ab", logprobs=["a", "b"]), result("ac", logprobs=["a", "c"]), 0) == Place(1, "logprobs")


@pytest.mark.parametrize("tokens", [[0, 0, 0, 0], [1, 3, 2, 3], [1, 1, 2]])
def test_without_counts_that_hold_chunks_are_counted(tokens):
    assert parting(result("a", "b", tokens=tokens), counted("a", "c"), 0) == Place(1, "chunks")


def test_what_came_before_a_restart_is_void():
    begun = result("x", None, "a", "b")
    assert parting(begun, result("a", "c"), 0) == Place(1, "chunks")


def test_calls_are_pieces_too():
    def called(arguments):
        delta = {"tool_calls": [{"index": 0, "id": arguments, "function": {"arguments": arguments}}]}
        return result() | {"chunks": [orjson.dumps([{"index": 0, "delta": delta}]).decode()]}

    assert parting(called("{}"), called("[]"), 0) == Place(0, "chunks")
    assert parting(called("{}"), called("{}"), 0) is None


def test_where_nothing_was_kept_nothing_is_told():
    assert parting({"completion": {"choices": []}}, counted("a"), 0) is None
    assert parting(counted("a"), counted("b"), 1) is None
