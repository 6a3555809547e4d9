"""How are `functions` and `function_call`, which OpenAI has deprecated, asked and answered?  As tools, in other words.

What was asked stays as it is in the job's parameters, so that a replay asks the same.  The model sees tools and tool calls: messages
are put into those words at the door, parameters on their way to the engine.  The answer is put back on its way out of the worker,
chunk by chunk and whole; transcripts keep it as the model said it.

A function's call has no id, and a tool's needs one.  It is made from the message's place, so a conversation that goes on is told the
same one again, and is found by its prefix.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from models.transcripts import Spoken

_FUNCTION_WORDS = {"tool_calls": "function_call"}
_TOOL_WORDS = {"function_call": "tool_calls"}
"""Of `finish_reason`."""


def asked_for(parameters: Mapping[str, Any]) -> bool:
    """Whether the answer's call is to be told as `function_call`."""
    return bool(parameters.get("functions"))


def as_tools(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with tools in place of functions.  An answer calls one function at most."""
    kept = {name: value for name, value in parameters.items() if name not in {"functions", "function_call"}}
    if not asked_for(parameters):
        return kept
    choice = parameters.get("function_call")
    return kept | {
        "tools": [{"type": "function", "function": function} for function in parameters["functions"]],
        "tool_choice": {"type": "function", "function": choice} if isinstance(choice, Mapping) else choice,
        "parallel_tool_calls": False,
    }


def as_tool_messages(messages: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages with a tool's call and result in place of a function's; a result belongs to the call before it."""
    told, called = [], ""
    for place, message in enumerate(messages):
        if message.get("function_call"):
            called = _id(place)
            rest = {name: value for name, value in message.items() if name != "function_call"}
            told.append(rest | {"tool_calls": [_call(called, message["function_call"])]})
        elif message["role"] == "function":
            result = {"role": "tool", "tool_call_id": called or _id(place), "content": message["content"] or ""}
            told.append(message | result)
        else:
            told.append(message)
    return told


def as_function_chunk(choices: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A chunk's choices as they are told to who asked with functions."""
    return [_reworded(choice, _FUNCTION_WORDS) | {"delta": _function(choice["delta"])} for choice in choices]


def as_function_answer(choices: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same of a whole answer's."""
    return [_reworded(choice, _FUNCTION_WORDS) | {"message": _function(choice["message"])} for choice in choices]


def as_tool_chunk(choices: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A chunk's choices as they were before `as_function_chunk`, but for the call's id."""
    return [_reworded(choice, _TOOL_WORDS) | {"delta": _tool(choice["delta"])} for choice in choices]


def as_recorded(answers: Iterable[Spoken], place: int) -> list[Spoken]:
    """The answers with the id that the next turn's message, in its place, will be given."""
    return [_named(answer, _id(place)) if answer.message.get("tool_calls") else answer for answer in answers]


def _id(place: int) -> str:
    """Nine characters: Mistral's templates know no other ids."""
    return f"fc{place:07d}"


def _call(name: str, function: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": name, "type": "function", "function": function}


def _reworded(choice: dict[str, Any], words: Mapping[str, str]) -> dict[str, Any]:
    reason = choice["finish_reason"]
    return choice | {"finish_reason": words.get(reason, reason)}


def _function(said: Mapping[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in said.items() if name != "tool_calls"}
    calls = said.get("tool_calls")
    return rest | {"function_call": calls[0]["function"]} if calls else rest


def _tool(said: Mapping[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in said.items() if name != "function_call"}
    function = said.get("function_call")
    return rest | {"tool_calls": [{"index": 0, "function": function}]} if function else rest


def _named(answer: Spoken, name: str) -> Spoken:
    calls = [_call(name, call["function"]) for call in answer.message["tool_calls"][:1]]
    return replace(answer, message=answer.message | {"tool_calls": calls})
