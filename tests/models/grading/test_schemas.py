"""Do values fit schemas, and can a schema of a stranger's do harm?"""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InvalidRequest
from models.grading.schemas import SCHEMA_BYTES, problem, schema_of

SOON_S = 20.0

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
    begun = time.thread_time()
    assert "too many steps" in problem(schema_of({"$ref": "#/$defs/s0", "$defs": steps}, "schema"), {})
    assert time.thread_time() - begun < SOON_S


def test_many_alternatives_on_many_elements_end():
    schema = schema_of({"items": {"anyOf": [{"const": n} for n in range(1000)]}}, "schema")
    begun = time.thread_time()
    assert "too many steps" in problem(schema, [-1] * 100_000) or "not valid" in problem(schema, [-1])
    assert "too many steps" in problem(schema, list(range(999)) * 1000)
    assert time.thread_time() - begun < SOON_S


def test_a_long_plain_list_is_no_trouble():
    schema = schema_of({"type": "array", "items": {"type": "integer", "minimum": 0}, "uniqueItems": True}, "schema")
    assert problem(schema, list(range(50_000))) is None
    assert "non-unique" in problem(schema, [*range(50_000), 7])


def test_unlike_objects_are_compared_in_time():
    begun = time.thread_time()
    assert problem(schema_of({"uniqueItems": True}, "schema"), [{"n": n} for n in range(50_000)]) is None
    assert time.thread_time() - begun < SOON_S


def test_patterns_are_searched_in_time():
    begun = time.thread_time()
    assert problem(schema_of({"pattern": "^(a+)+$"}, "schema"), "a" * 10_000 + "b") is not None
    assert problem({"pattern": "^(a+)+$"}, "aaa") is None
    assert time.thread_time() - begun < SOON_S


NEST = [[[n] for n in range(2_000)]]


@pytest.mark.parametrize(
    ("costly", "value"),
    [
        ({"const": NEST}, NEST),
        ({"enum": [NEST]}, NEST),
        ({"uniqueItems": True}, [list(range(100_000))]),
        ({"items": {}}, [0] * 10_000),
        ({"pattern": "(a?){1000}$"}, "a" * 2_000),
    ],
)
def test_what_is_looked_at_whole_costs_by_all_there_is_in_it(costly, value):
    """Not the two steps, and one for what is at the top, that each of these keywords is."""
    schema = {"$defs": {"costly": costly, "often": {"allOf": [{"$ref": "#/$defs/costly"}] * 50}}}
    schema = schema_of(schema | {"allOf": [{"$ref": "#/$defs/often"}] * 20}, "schema")
    begun = time.thread_time()
    assert "too many steps" in problem(schema, value)
    assert time.thread_time() - begun < SOON_S


@given(st.recursive(st.none() | st.integers() | st.text(), lambda x: st.dictionaries(st.text(), x, max_size=3)))
def test_any_value_fits_or_has_a_problem(value):
    told = problem(PERSON, value)
    fits = isinstance(value, dict) and isinstance(value.get("age"), int) and value["age"] >= 0
    assert (told is None) == fits
