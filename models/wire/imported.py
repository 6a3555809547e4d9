"""What does a record of a file say?  OpenAI's line of training data, our own export of one, or ShareGPT's; anybody's, so all is checked.

A record becomes messages, as a request would have them, and the turns that said some of them.  What other tools add beside `messages`
is overlooked; a message is refused for what a request's would be, and so is whatever stands under `tramontane` and is not of our making.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.errors import InvalidRequest
from models.lifecycle import FINAL, JobState
from models.requests import as_seen
from models.wire.chat import ChatRequest, Metadata
from models.wire.messages import MESSAGES_MOST, TOOLS_MOST, Message, Strict, Tool
from models.wire.problems import nul_in, validated

Count = Annotated[int, Field(ge=0, lt=1 << 31)]
At = Annotated[int, Field(ge=0, lt=1 << 48, description="Unix time in milliseconds")]
_ROLES = {
    **dict.fromkeys(("system",), "system"),
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "model", "bing", "bard"), "assistant"),
    **dict.fromkeys(("tool", "observation", "function_response"), "tool"),
    "function_call": "call",
}


_BY_MESSAGES = {"raw", "echo", "continue_final_message", "messages"}


class Usage(Strict):
    prompt_tokens: Count = 0
    completion_tokens: Count = 0
    cached_tokens: Count = 0


class ImportedTurn(Strict):
    message: Annotated[int, Field(ge=0, lt=MESSAGES_MOST)]
    """Which of the messages it said; of one without an answer, the last it was asked."""
    choice: Annotated[int, Field(ge=0, lt=128)] = 0
    model: Annotated[str, Field(min_length=1, max_length=200)]
    state: Annotated[str, Field(pattern=f"^({'|'.join(sorted(FINAL))})$")] = JobState.COMPLETED
    finish_reason: Annotated[str, Field(max_length=20)] | None = None
    created_ms: At
    started_ms: At | None = None
    first_token_ms: At | None = None
    ended_ms: At | None = None
    tag: Annotated[str, Field(max_length=100)] | None = None
    usage: Usage = Usage()
    parameters: dict[str, Any] = Field(default_factory=dict)
    metadata: Metadata = Field(default_factory=dict)
    replay: bool = False


class ImportedConversation(Strict):
    id: Annotated[str, Field(pattern=r"^conv_[0-7][0-9a-hjkmnp-tv-z]{25}$")]
    name: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    title: Annotated[str, Field(max_length=200)] = ""
    created_ms: At
    updated_ms: At


class Provenance(Strict):
    """What our own export adds."""

    conversation: ImportedConversation
    turns: Annotated[list[ImportedTurn], Field(min_length=1)]


class Record(BaseModel):
    """The keys that are read; a data set's own are overlooked."""

    model_config = ConfigDict(strict=True)

    messages: Annotated[list[Message], Field(min_length=1, max_length=MESSAGES_MOST)]
    tools: Annotated[list[Tool], Field(max_length=TOOLS_MOST)] | None = None
    metadata: Metadata | None = None
    tramontane: Provenance | None = None

    @model_validator(mode="after")
    def _turns_are_told(self) -> "Record":
        for number, turn in enumerate(self.tramontane.turns if self.tramontane else ()):
            if turn.message >= len(self.messages):
                raise ValueError(f"tramontane.turns[{number}].message: there is no such message")
            spoken = self.messages[turn.message].role == "assistant" and turn.message > 0
            if spoken != (turn.finish_reason is not None):
                raise ValueError(f"tramontane.turns[{number}].finish_reason: goes with an answer of the assistant's")
        return self


class Parsed(Strict):
    """A record that is sound."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None
    metadata: dict[str, str]
    provenance: Provenance | None


def parsed(record: Any) -> Parsed:
    """Raises InvalidRequest for what no request could say."""
    if not isinstance(record, dict):
        raise InvalidRequest("a record is a JSON object")
    body = _weightless(record if "messages" in record else _from_sharegpt(record))
    if where := nul_in(body):
        raise InvalidRequest(f"{where}: NUL characters are not accepted", param=where)
    sound = validated(Record, body)
    messages = as_seen(body)
    for turn in sound.tramontane.turns if sound.tramontane else ():
        _check_parameters(parameters_of(turn, body.get("tools")))
    return Parsed.model_construct(
        messages=messages, tools=body.get("tools"), metadata=sound.metadata or {}, provenance=sound.tramontane
    )


def parameters_of(turn: ImportedTurn, tools: Any) -> dict[str, Any]:
    """A turn that says nothing of tools had those of its record."""
    told = turn.parameters
    if tools and not told.keys() & {"tools", "functions"}:
        return told | {"tools": tools}
    return {name: value for name, value in told.items() if name != "tools" or value is not None}


def _check_parameters(parameters: Mapping[str, Any]) -> None:
    """They are what a request could ask for, since a replay will; what depends on the messages is left to that."""
    asked = {name: value for name, value in parameters.items() if name not in _BY_MESSAGES}
    validated(ChatRequest, asked | {"messages": [{"role": "user", "content": "-"}]})


def _weightless(body: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's training data says by a `weight` which answers are learnt from; to a conversation it means nothing."""
    messages = body["messages"]
    if not isinstance(messages, list):
        return body
    told = [
        {name: value for name, value in each.items() if name != "weight"} if isinstance(each, dict) else each
        for each in messages
    ]
    return body | {"messages": told}


class Utterance(BaseModel):
    model_config = ConfigDict(strict=True)

    from_: str = Field(alias="from")
    value: str


class ShareGpt(BaseModel):
    model_config = ConfigDict(strict=True)

    conversations: Annotated[list[Utterance], Field(min_length=1, max_length=MESSAGES_MOST)]
    system: str | None = None
    tools: str | list[Any] | None = None


def _from_sharegpt(record: Mapping[str, Any]) -> dict[str, Any]:
    if "conversations" not in record:
        raise InvalidRequest(
            "a record has `messages`, as OpenAI's, or `conversations`, as ShareGPT's", param="messages"
        )
    told = validated(ShareGpt, record)
    messages: list[dict[str, Any]] = [{"role": "system", "content": told.system}] if told.system else []
    waiting: list[str] = []
    for place, said in enumerate(told.conversations):
        where = f"conversations[{place}]"
        role = _ROLES.get(said.from_)
        if role is None:
            raise InvalidRequest(f"{where}.from: {', '.join(_ROLES)} speak there", param=f"{where}.from")
        if role == "call":
            calls = _calls(said.value, where, len(messages))
            waiting = [call["id"] for call in calls]
            _call(messages, calls)
        elif role == "tool":
            name = waiting.pop(0) if waiting else _call_id(len(messages), 0)
            messages.append({"role": "tool", "content": said.value, "tool_call_id": name})
        else:
            messages.append({"role": role, "content": said.value})
    return {"messages": messages, "tools": _tools(told.tools)}


def _call(messages: list[dict[str, Any]], calls: Sequence[dict[str, Any]]) -> None:
    """What is said before a call is of one message with it."""
    spoken = (
        messages.pop() if messages and messages[-1]["role"] == "assistant" else {"role": "assistant", "content": None}
    )
    messages.append(spoken | {"tool_calls": [*calls]})


def _calls(value: str, where: str, place: int) -> list[dict[str, Any]]:
    try:
        told = orjson.loads(value)
        asked = [(call["name"], call.get("arguments")) for call in (told if isinstance(told, list) else [told])]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InvalidRequest(f"{where}.value: a call is JSON with name and arguments", param=f"{where}.value") from None
    return [
        {
            "id": _call_id(place, number),
            "type": "function",
            "function": {
                "name": name,
                "arguments": arguments if isinstance(arguments, str) else orjson.dumps(arguments or {}).decode(),
            },
        }
        for number, (name, arguments) in enumerate(asked)
    ]


def _call_id(place: int, number: int) -> str:
    """ShareGPT has none; nine characters, as Mistral's templates want them."""
    return f"sg{place:05d}{number % 100:02d}"


def _tools(told: str | list[Any] | None) -> Any:
    """Data sets hold them as JSON in a string, some without the words around a function."""
    if not told:
        return None
    try:
        tools = orjson.loads(told) if isinstance(told, str) else told
    except ValueError:
        raise InvalidRequest("tools: not JSON", param="tools") from None
    if not isinstance(tools, list):
        return tools
    return [
        each if isinstance(each, dict) and "function" in each else {"type": "function", "function": each}
        for each in tools
    ]


Format = Literal["openai", "sharegpt", "parquet"]
