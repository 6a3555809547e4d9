"""What binds an answer that is JSON, or calls tools instead?  One grammar that lets either through.

SGLang 0.5.23 binds the whole answer to a schema, so that no tool could be called beside it.  Its structural tags (xgrammar's) can say
"either": the JSON that was asked for, or calls as Mistral's models write them, with a space before their list or without.  The
arguments of a tool that is not strict are any object: its schema was never meant as a grammar, and was not checked for one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

_ANY_OBJECT = {"type": "object"}
CALLS_OF = "mistral"
"""The way of calling that stands here, as a card names it."""
_CALLS = {"type": "regex", "pattern": r"\[TOOL_CALLS\] ?"}


def in_json(body: Mapping[str, Any]) -> str | None:
    """The field that asks for JSON, if one does."""
    if body.get("guided_json") is not None:
        return "guided_json"
    form = (body.get("response_format") or {}).get("type", "text")
    return "response_format" if form in {"json_object", "json_schema"} else None


def in_json_or_calls(body: Mapping[str, Any]) -> str | None:
    """The field that asks for JSON where the model may call a tool instead."""
    free = (body.get("tool_choice") or "auto") == "auto"
    return in_json(body) if body.get("tools") and free else None


def json_or_calls(form: Mapping[str, Any], tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The `response_format` for it, from that of an answer in JSON."""
    schema = form["json_schema"].get("schema") or _ANY_OBJECT if form["type"] == "json_schema" else _ANY_OBJECT
    calls = {"type": "array", "minItems": 1, "items": {"anyOf": [_call(tool["function"]) for tool in tools]}}
    called = {"type": "sequence", "elements": [_CALLS, {"type": "json_schema", "json_schema": calls}]}
    either = [{"type": "json_schema", "json_schema": schema}, called]
    return {"type": "structural_tag", "format": {"type": "or", "elements": either}}


def _call(function: Mapping[str, Any]) -> dict[str, Any]:
    arguments = (function.get("parameters") if function.get("strict") else None) or _ANY_OBJECT
    properties = {"name": {"const": function["name"]}, "arguments": arguments}
    return {"type": "object", "properties": properties, "required": ["name", "arguments"]}
