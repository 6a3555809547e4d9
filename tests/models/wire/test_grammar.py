"""What may bind an answer, and what would bind the engine: each refusal stands for something that was seen to stop one."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.wire.grammar import (
    PROPERTIES_MOST,
    REGEX_CHARACTERS,
    SCHEMA_CHARACTERS,
    VALUES_MOST,
    check_regex,
    check_schemas,
)

QUICK_S = 1.0


def named(count):
    return {"properties": {f"p{number}": {"type": "string"} for number in range(count)}}


def deep(count):
    schema = {"type": "string"}
    for _ in range(count):
        schema = {"type": "array", "items": schema}
    return schema


TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}}
    },
}
GOOD_SCHEMAS = [
    {},
    {"type": ["string", "null"], "minLength": 1},
    {"type": "object", "properties": {"not": {"type": "string"}, "$ref": {"enum": [1, None, "a"]}}},
    {"type": "object", "additionalProperties": False, "required": ["a"], "properties": {"a": {"const": {"if": 1}}}},
    {"items": True, "prefixItems": [{"type": "integer"}], "additionalProperties": {"$ref": "#/definitions/a~1b"}}
    | {"definitions": {"a/b": {"type": "string", "pattern": "[a-z]+"}}},
    TREE,
    {"type": "object", "properties": {"self": {"$ref": "#"}}},
    named(PROPERTIES_MOST),
    {"enum": list(range(VALUES_MOST))},
    deep(60),
]


@pytest.mark.parametrize("schema", GOOD_SCHEMAS)
def test_a_schema_that_the_engine_can_follow(schema):
    check_schemas({"guided_json": schema})


BAD_SCHEMAS = [
    ({"$ref": "#"}, "here", "leads to itself"),
    ({"allOf": [{"$ref": "#"}]}, "here.allOf[0]", "leads to itself"),
    (
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        "here",
        "leads to itself",
    ),
    ({"$ref": "#/$defs/none"}, "here", "nothing at the $ref's place"),
    ({"$ref": "https://example.com/schema"}, "here", "in the schema itself"),
    ({"$ref": 5}, "here", "in the schema itself"),
    ({"items": {"type": "varchar"}}, "here.items", "no such type"),
    ({"type": ["string", 5]}, "here", "no such type"),
    ({"type": {}}, "here", "no such type"),
    (
        {"properties": {"a": {"uniqueItems": True, "not": {}}}},
        "here.properties.a",
        "not, uniqueItems cannot be enforced",
    ),
    ({"anyOf": [{}, {"if": {}}]}, "here.anyOf[1]", "if cannot be enforced"),
    ({"items": {"patternProperties": {"^(a+b+)*$": {}}}}, "here.items", "in one another"),
    ({"properties": {"a b:": {"type": "x"}}}, "here.properties.a_b_", "no such type"),
    ({"$defs": {"a": {"pattern": "(a*)*"}}}, "here.$defs.a", "able to match nothing"),
    (named(PROPERTIES_MOST + 1), "here", "500 properties"),
    ({"enum": list(range(VALUES_MOST + 1))}, "here", "1000 values"),
    ({"const": "a" * (SCHEMA_CHARACTERS + 1)}, "here", "65536 characters"),
    ({"properties": {"a" * (SCHEMA_CHARACTERS + 1): {}}}, "here", "65536 characters"),
]


@pytest.mark.parametrize(("schema", "place", "words"), BAD_SCHEMAS, ids=[str(each[0])[:40] for each in BAD_SCHEMAS])
def test_a_schema_that_it_cannot(schema, place, words):
    with pytest.raises(ValueError, match=r"^here") as caught:
        check_schemas({"here": schema})
    assert str(caught.value).startswith(f"{place}: ")
    assert words in str(caught.value)


def test_the_schemas_of_several_tools_are_weighed_together():
    half = named(PROPERTIES_MOST // 2)
    check_schemas({"a": half, "b": half})
    with pytest.raises(ValueError, match=r"^c: .*500 properties"):
        check_schemas({"a": half, "b": half, "c": named(1)})


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["#", "#/$defs/a", "object"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["$ref", "$defs", "type", "items", "properties", "anyOf", "enum", "pattern", "const", "a"]),
            inner,
        )
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["$ref", "$defs", "type", "items", "properties", "anyOf", "enum", "a"]), values))
def test_whatever_comes_as_a_schema_is_taken_or_refused_in_words(schema):
    try:
        check_schemas({"here": schema})
    except ValueError as error:
        assert str(error).startswith("here")  # noqa: PT017


GOOD = [
    "(yes|no)",
    "[a-z ]{1,100}",
    r"([0-9]{1,3}\.){3}[0-9]{1,3}",
    "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    r"\w+(, \w+)*",
    r"(\w+ )*\w+\.",
    r"\d{4}-\d{2}-\d{2}",
    "(a|b)*",
    "^x$",
    r"[\]\-x(]+",
    "[^]]+",
    "(?:a|b){3}",
    "(?<year>[0-9]{4})",
    ".*?",
    "x{0,}",
    r"-?\d+(\.\d+)?",
    "((0|1)?[0-9]|2[0-3]):[0-5][0-9]",
    r"\(a\)",
    "a{,b}",
    "(" * 50 + "a" + ")" * 50,
    "a" * REGEX_CHARACTERS,
]


@pytest.mark.parametrize("pattern", GOOD, ids=[each[:30] for each in GOOD])
def test_an_expression_that_the_engine_can_follow(pattern):
    check_regex(pattern, "regex")


BAD = [
    ("((((.*)*)*)*)*", "able to match nothing"),  # none of these let the engine answer anybody within 10 s
    (r"(\w*\s*)*x", "able to match nothing"),
    ("(a?){2,}", "able to match nothing"),
    ("(.?){300}", "able to match nothing"),
    ("(a|)*", "able to match nothing"),
    ("(^)*", "able to match nothing"),
    ("(.+.+)+x", "in one another"),
    ("((.+)+)+x", "in one another"),
    ("(.+){1,20}x", "in one another"),
    ("(.{1,50}){1,20}x", "in one another"),
    ("(.{1,32}.{1,32}){1,16}x", "in one another"),
    ("(a+|b+)*", "in one another"),
    (".{1,300}.{1,300}x", "500 characters"),
    ("(?=a)b", "looking ahead"),
    ("a(?<!b)", "looking ahead"),
    (r"(a)\1", "asked for again"),
    ("(", "not closed"),
    ("(?:a", "not closed"),
    ("a)", "was not opened"),
    ("[a", "no end"),
    ("a\\", "no end"),
    ("(" * 51 + "a" + ")" * 51, "50 deep"),
    ("(" * REGEX_CHARACTERS, "50 deep"),
    ("a" * (REGEX_CHARACTERS + 1), "2000 characters"),
]


@pytest.mark.parametrize(("pattern", "words"), BAD, ids=[each[0][:30] for each in BAD])
def test_an_expression_that_it_cannot(pattern, words):
    with pytest.raises(ValueError, match=r"^regex: ") as caught:
        check_regex(pattern, "regex")
    assert words in str(caught.value)


@given(st.text(st.sampled_from("ab()[]{}|*+?\\.,12^$"), max_size=60))
def test_whatever_comes_as_an_expression_is_taken_or_refused_in_words(pattern):
    try:
        check_regex(pattern, "regex")
    except ValueError as error:
        assert str(error).startswith("regex: ")  # noqa: PT017


def test_the_door_itself_is_not_held_up():
    began = time.thread_time()
    for pattern in ("a{1,9}" * 333, "[" * REGEX_CHARACTERS, "(a|" * 666, "{" * REGEX_CHARACTERS, "\\" * 1999):
        try:
            check_regex(pattern, "regex")
        except ValueError:
            continue
    check_schemas({"a": deep(60)})
    assert time.thread_time() - began < QUICK_S
