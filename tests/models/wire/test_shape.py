"""Where a model may answer in JSON or call a tool, one grammar lets either through and nothing else."""

import pytest

from models.wire.chat import engine_parameters
from models.wire.shape import in_json_or_calls

STRICT = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "varchar"}}}
STRICT_TOOL = {"type": "function", "function": {"name": "tell", "parameters": STRICT, "strict": True}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "array"}}}
OBJECT = {"type": "json_object"}


def told(**fields):
    return engine_parameters({"messages": [], **fields})["response_format"]


@pytest.mark.parametrize(
    ("form", "schema"),
    [
        (OBJECT, {"type": "object"}),
        (SCHEMA, {"type": "array"}),
        ({"type": "json_schema", "json_schema": {"name": "x"}}, {"type": "object"}),
    ],
)
@pytest.mark.parametrize("choice", [{}, {"tool_choice": None}, {"tool_choice": "auto"}], ids=str)
def test_json_or_calls(form, schema, choice):
    format_ = told(tools=[TOOL, STRICT_TOOL], response_format=form, **choice)
    answer, called = format_["format"]["elements"]
    assert (format_["type"], format_["format"]["type"], answer["json_schema"]) == ("structural_tag", "or", schema)
    calls = called["elements"][1]["json_schema"]
    properties = [each["properties"] for each in calls["items"]["anyOf"]]
    assert properties == [
        {"name": {"const": "look"}, "arguments": {"type": "object"}},
        {"name": {"const": "tell"}, "arguments": STRICT},
    ]


def test_cloudflares_name_for_a_schema():
    format_ = told(tools=[TOOL], guided_json={"type": "array"})
    assert format_["format"]["elements"][0]["json_schema"] == {"type": "array"}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "look"}}], ids=str)
def test_where_a_tool_must_be_called_no_words_are_left_to_shape(choice):
    assert told(tools=[TOOL], response_format=OBJECT, tool_choice=choice) == {"type": "text"}


@pytest.mark.parametrize(
    "fields", [{"tool_choice": "none", "tools": [TOOL]}, {"tools": None}, {}], ids=["none", "null", "absent"]
)
def test_without_tools_the_schema_binds_all(fields):
    assert told(response_format=SCHEMA, **fields) == SCHEMA
    assert in_json_or_calls({"response_format": SCHEMA, **fields}) is None


def test_words_are_not_bound():
    assert in_json_or_calls({"tools": [TOOL], "response_format": {"type": "text"}}) is None
    assert in_json_or_calls({"tools": [TOOL]}) is None
