"""Records are cut out of a file whole, wherever its pieces end, and each knows the line it begins in."""

import io
import json
import random

import pytest

from infra import record_files
from infra.record_files import records_in
from models.errors import InvalidRequest, TooLarge

MOST = 1000
HARD = [
    {"a": 'quote " and \\ and \\" end\\'},
    {"b": ["]", "}", "{[", {"c": "\n"}]},
    {"d": "ä 東 🙂", "e": {"f": [[], {}]}},
    {},
]


def cut(text, most=MOST):
    return list(records_in(io.BytesIO(text.encode()), most))


@pytest.mark.parametrize("piece_bytes", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("indent", [None, 1])
def test_an_array_is_cut_into_its_elements(monkeypatch, piece_bytes, indent):
    monkeypatch.setattr(record_files, "_PIECE_BYTES", piece_bytes)
    text = json.dumps(HARD * 3, indent=indent, ensure_ascii=False)
    found = cut(" \n" + text) if piece_bytes > 3 else cut(text)
    assert [json.loads(record) for _, record in found] == HARD * 3


@pytest.mark.parametrize("piece_bytes", [1, 5, 1 << 16])
def test_an_element_knows_its_line(monkeypatch, piece_bytes):
    monkeypatch.setattr(record_files, "_PIECE_BYTES", piece_bytes)
    assert [line for line, _ in cut('[{"a":\n1},\n\n{"b": 2}, {"c": 3},\n{}]')] == [1, 4, 4, 5]


def test_lines_are_told_without_the_empty_ones():
    assert cut('\ufeff{"a": 1}\n\n  \n{"b": 2}') == [(1, b'{"a": 1}\n'), (4, b'{"b": 2}')]
    assert cut("") == []
    assert cut("[]") == []


@pytest.mark.parametrize("text", ['[{"a": 1}', '[{"a": "', "["])
def test_an_array_that_breaks_off_is_told(text):
    with pytest.raises(InvalidRequest, match="breaks off"):
        cut(text)


@pytest.mark.parametrize("piece_bytes", [1, 5, 1 << 16])
@pytest.mark.parametrize(
    "text", ['[{},\n"a", {}]', "[{},\n12, {}]", '[{}]\n{"a": {"b": 1}}', "[{},\nnull\n\n]", "[\nx"]
)
def test_what_is_no_record_is_refused_with_its_line(monkeypatch, piece_bytes, text):
    """It was passed over before, and the rest imported as if all were well."""
    monkeypatch.setattr(record_files, "_PIECE_BYTES", piece_bytes)
    with pytest.raises(InvalidRequest, match=r"^line 2: what stands there"):
        cut(text)


@pytest.mark.parametrize("text", ["{}\n" + "x" * (MOST + 2), '[{},\n{"a": "' + "x" * (1 << 17) + '"}]'])
def test_a_record_has_its_size_and_no_more(text):
    with pytest.raises(TooLarge, match="line 2"):
        cut(text)


def test_noise_is_cut_or_refused_and_nothing_else():
    dice = random.Random(7)
    for _ in range(500):
        noise = "[" + "".join(dice.choices('{}[]",:\\ \nab1', k=40))
        try:
            cut(noise)
        except InvalidRequest:
            continue
