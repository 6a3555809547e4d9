"""What is packed comes back the same, key order and awkward characters too, and long text takes less room."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import LargeBinary, literal, select

from models.packing import pack, unpack
from models.tables.base import Packed

documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    # orjson refuses lone surrogates, and no JSON it parses has any
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=50,
)


@given(documents)
def test_a_document_comes_back_as_it_was(document):
    assert repr(unpack(pack(document))) == repr(document)  # by repr: 1 == 1.0 == True, and the order of keys counts


def test_long_text_shrinks_and_short_text_stays_readable():
    long = {"text": "The mistral is a cold wind. " * 200}
    assert len(pack(long)) < len(orjson.dumps(long)) / 3
    assert pack({"a": 1}) == b'j{"a":1}'


def test_what_lives_for_seconds_is_not_deflated():
    long = {"text": "The mistral is a cold wind. " * 200}
    assert pack(long, plain=True) == b"j" + orjson.dumps(long)
    assert unpack(pack(long, plain=True)) == long


@pytest.mark.parametrize("length", [1021, 1022, 1023])
def test_both_sides_of_the_border_come_back(length):
    text = "x" * length
    assert unpack(pack(text)) == text


@pytest.mark.parametrize("stored", [b"", b"x{}", b"{}", b"j", b"j{", b"z", b"zjunk"])
def test_what_was_not_packed_is_refused(stored):
    with pytest.raises(ValueError, match=r".*"):
        unpack(stored)


def test_a_column_keeps_nul_characters_and_tells_null_from_the_absence_of_a_document(session):
    awkward = {"b": "\0", "a": [None, 1.5, "\U0001f44b", "\u2028"]}
    stored = session.execute(select(literal(awkward, Packed), literal(None, Packed))).one()
    assert tuple(stored) == (awkward, None)
    assert list(stored[0]) == ["b", "a"]
    assert session.scalar(select(literal(b"j1", LargeBinary))) == b"j1"
