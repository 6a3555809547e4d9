"""How does a run want its model to be sampled, in a chat's words?  OpenAI's evals say some of it in words of the Responses API.

Pure renaming: what is wrong with a value, `models.wire.chat` says of the chat that comes out.  Raises InvalidRequest for what a chat
could not say, and for what is said twice.  Source: openai-python 2.x, `types/evals`; OpenAI's cookbook for `max_completions_tokens`.
"""

from collections.abc import Mapping
from typing import Any

from models.errors import InvalidRequest

_THEIRS = {"max_completions_tokens": "max_completion_tokens", "text": "response_format"}
SPELLINGS = frozenset({"max_completions_tokens"})
"""What OpenAI's own scripts say beside a chat's words."""
RESPONSES_OWN = frozenset({"text"})


def chat_parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """The sampling parameters that are set, as a chat takes them."""
    told = {name: value for name, value in given.items() if value is not None}
    for theirs, ours in _THEIRS.items():
        if theirs not in told:
            continue
        if ours in told:
            raise InvalidRequest(f"{theirs}: goes without {ours}; both say the same", param=theirs)
        value = told.pop(theirs)
        told[ours] = _format(value) if theirs in RESPONSES_OWN else value
    if isinstance(told.get("tools"), list):
        told["tools"] = [_tool(tool, f"tools[{place}]") for place, tool in enumerate(told["tools"])]
    return told


def as_given(name: str, given: Mapping[str, Any]) -> str:
    """What a chat's parameter was called by whoever gave it."""
    return next((theirs for theirs, ours in _THEIRS.items() if ours == name and theirs in given), name)


def _format(text: Any) -> Any:
    if not isinstance(text, Mapping):
        raise InvalidRequest("text: an object with a format is wanted", param="text")
    if unknown := sorted(text.keys() - {"format"}):
        where = f"text.{unknown[0][:80]}"
        raise InvalidRequest(f"unsupported parameter: {where}", param=where, code="unsupported_parameter")
    wanted = text.get("format")
    if not isinstance(wanted, Mapping) or wanted.get("type") != "json_schema":
        return wanted
    return {"type": "json_schema", "json_schema": {name: value for name, value in wanted.items() if name != "type"}}


def _tool(tool: Any, where: str) -> Any:
    """The Responses API names a function beside the type, a chat below it."""
    if not isinstance(tool, Mapping) or "function" in tool:
        return tool
    if tool.get("type") != "function":
        where = f"{where}.type"
        raise InvalidRequest(
            f"{where}: only functions of the caller's own can be called", param=where, code="unsupported_parameter"
        )
    return {"type": "function", "function": {name: value for name, value in tool.items() if name != "type"}}
