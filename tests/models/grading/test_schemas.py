"""Do values fit schemas, and can a schema of a stranger's do harm?"""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InvalidRequest
from models.grading.schemas import SCHEMA_BYTES, problem, schema_of

PERSON = {"type": "object", "properties": {"age": {"type": "integer", "minimum": 0}}, "required": ["age"]}


def test_what_fits_has_no_problem():
    assert problem(schema_of(PERSON, "schema"), {"age": 4}) is None


@pytest.mark.parametrize(
    ("value", "said"), [({}, "$: 'age' is a required property"), ({"age": -1}, "$.age: -1 is less"), ([], "$: ")]
)
def test_a_problem_is_told_with_its_place(value, said):
    assert problem(PERSON, value).startswith(said)


@pytest.mark.parametrize(
    "schema",
    [
        None,
        [],
        "x",
        {"type": "no such"},
        {"properties": 3},
        {"patternProperties": {"(a+)+$": {}}},
        {"properties": {"x": {"patternProperties": {}}}},
        {"pattern": "("},
        {"enum": ["x" * SCHEMA_BYTES]},
    ],
)
def test_what_is_no_schema_is_refused(schema):
    with pytest.raises(InvalidRequest):
        schema_of(schema, "schema")


def test_nothing_is_fetched():
    assert "cannot be followed" in problem(schema_of({"$ref": "http://127.0.0.1:1/x.json"}, "schema"), {})


def test_a_schema_that_leads_to_itself_ends():
    assert "nested too deeply" in problem(schema_of({"$ref": "#"}, "schema"), {})


def test_references_that_double_at_every_step_end():
    steps = {f"s{n}": {"allOf": [{"$ref": f"#/$defs/s{n + 1}"}] * 2} for n in range(40)} | {"s40": {}}
    begun = time.monotonic()
    assert "nested too deeply" in problem(schema_of({"$ref": "#/$defs/s0", "$defs": steps}, "schema"), {})
    assert time.monotonic() - begun < 10


def test_patterns_are_searched_in_time():
    begun = time.monotonic()
    assert problem(schema_of({"pattern": "^(a+)+$"}, "schema"), "a" * 10_000 + "b") is not None
    assert problem({"pattern": "^(a+)+$"}, "aaa") is None
    assert time.monotonic() - begun < 10


@given(st.recursive(st.none() | st.integers() | st.text(), lambda x: st.dictionaries(st.text(), x, max_size=3)))
def test_any_value_fits_or_has_a_problem(value):
    told = problem(PERSON, value)
    fits = isinstance(value, dict) and isinstance(value.get("age"), int) and value["age"] >= 0
    assert (told is None) == fits
