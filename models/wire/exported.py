"""How does a path of a conversation look in a file?  In OpenAI's words as a line of training data, or in ShareGPT's.

OpenAI's record says everything, and can be read back: `messages`, `tools` and `metadata`, and under `tramontane` what OpenAI has no
word for: the conversation, and which message is which turn's answer, asked how.  ShareGPT's has roles and texts; calls of tools are
written as JSON, pictures as `<image>`, and what else there is (call ids, names, parameters, times) it cannot carry.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from models.branches import Said, Told
from models.tables.jobs import Job
from models.tables.transcripts import Conversation
from models.transcripts import Node
from models.wire.functions import as_tools

_TURN_COLUMNS = ("created_ms", "started_ms", "first_token_ms", "ended_ms", "tag")
_COUNTS = ("prompt_tokens", "completion_tokens", "cached_tokens")
_SPEAKERS = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}
IMAGE = "<image>"


def openai_record(conversation: Conversation, told: Told, leaf: Said) -> dict[str, Any]:
    nodes = told.nodes(leaf.tip)
    tools = _tools(leaf.job)
    turns = [_turn(said, place, tools) for place, said in _turns(told, leaf, nodes)]
    record: dict[str, Any] = {"messages": [node.message for node in nodes]}
    record |= {"tools": tools} if tools else {}
    return record | {
        "metadata": conversation.meta,
        "tramontane": {"conversation": _conversation(conversation), "turns": turns},
    }


def _turns(told: Told, leaf: Said, nodes: Sequence[Node]) -> list[tuple[int, Said]]:
    """Where on the path each turn has spoken; a prompt that nothing answered is told by its last message."""
    found = [(place, told.answered[node.hash]) for place, node in enumerate(nodes) if node.hash in told.answered]
    return found if leaf.answer else [*found, (len(nodes) - 1, leaf)]


def _conversation(conversation: Conversation) -> dict[str, Any]:
    return {
        "id": conversation.id,
        "name": conversation.name,
        "title": conversation.title,
        "created_ms": conversation.created_ms,
        "updated_ms": conversation.updated_ms,
    }


def _turn(said: Said, place: int, tools: Any) -> dict[str, Any]:
    job = said.job
    parameters = {
        name: value for name, value in (job.parameters or {}).items() if name not in {"stream", "stream_options"}
    }
    if tools and _tools(job) == tools:
        parameters.pop("tools", None)  # the record says them once
    elif tools:
        parameters.setdefault("tools", None)
    turn: dict[str, Any] = {"message": place, "choice": said.choice, "model": job.model, "state": job.state}
    turn |= {"finish_reason": said.answer.finish_reason} if said.answer else {}
    turn |= {name: value for name in _TURN_COLUMNS if (value := getattr(job, name)) is not None}
    turn |= {"usage": {name: getattr(job, name) for name in _COUNTS}, "parameters": dict(sorted(parameters.items()))}
    turn |= {"metadata": job.meta} if job.meta else {}
    return turn | ({"replay": True} if said.turn.replay else {})


def _tools(job: Job) -> Any:
    return as_tools(job.parameters or {}).get("tools")


def sharegpt_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """From OpenAI's."""
    said = [each for message in record["messages"] for each in _said(message)]
    told: dict[str, Any] = {"id": record["tramontane"]["conversation"]["id"], "conversations": said}
    return told | ({"tools": orjson.dumps(record["tools"]).decode()} if "tools" in record else {})


def _said(message: Mapping[str, Any]) -> list[dict[str, str]]:
    text = _plain(message.get("content"))
    calls = message.get("tool_calls")
    said = [{"from": _SPEAKERS[message["role"]], "value": text}] if text or not calls else []
    if not calls:
        return said
    asked = [{"name": call["function"]["name"], "arguments": call["function"].get("arguments")} for call in calls]
    return [*said, {"from": "function_call", "value": orjson.dumps(asked).decode()}]


def _plain(content: Any) -> str:
    if isinstance(content, list):
        return "".join(part["text"] if part["type"] == "text" else IMAGE for part in content)
    return content or ""


def replayed_only(leaf: Said) -> bool:
    """Whether nobody but a replay has said it."""
    return leaf.turn.replay
