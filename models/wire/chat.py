"""What may a chat request say?  OpenAI's chat completions, with the fields we honour, and what SGLang and Cloudflare add to them.

A field that is not here is refused by name, never ignored.  `ChatRequest` only validates: what reaches the engine is the parsed
body itself (`engine_parameters`), so message texts and tool schemas arrive unchanged.  Source: OpenAI's API reference.

An assistant's message that comes last is continued if `continue_final_message` says so, and refused if not: OpenAI answers after
it, others go on with it, and SGLang would make it the user's words.  The completion holds what was added to it.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from models.placement import Tier
from models.wire.functions import as_tools
from models.wire.grammar import check_regex, check_schemas
from models.wire.messages import (
    MESSAGES_MOST,
    TOOLS_MOST,
    AssistantMessage,
    Function,
    Message,
    NamedFunction,
    NamedTool,
    Strict,
    Tool,
)
from models.wire.shape import in_json, in_json_or_calls, json_or_calls

CHOICES_MOST = 16
STOPS_MOST = 16
STOP_CHARACTERS = 1_000
"""SGLang looks back as far at each token of an answer, in the loop that serves everybody's."""
TOP_K_MOST = 2**31 - 1
"""SGLang's tensors have no room for more: the scheduler ends of it, and every answer with it."""
METADATA_MOST = 16
METADATA_CHARACTERS = 512
BIASES_MOST = 300
"""As with OpenAI."""
TIERS = {name: Tier(name) for name in Tier} | {
    "auto": Tier.DEFAULT,  # no account has reserved anything
    "scale": Tier.DEFAULT,
    "fast": Tier.PRIORITY,
}
"""What each of OpenAI's service tiers is here."""

Temperature = Annotated[float, Field(ge=0, le=5)]
Stop = Annotated[str, Field(min_length=1, max_length=STOP_CHARACTERS)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
TokenId = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]
Bias = Annotated[float, Field(ge=-100, le=100)]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=METADATA_CHARACTERS)]],
    Field(max_length=METADATA_MOST),
]


class JsonSchema(Strict):
    name: Annotated[str, Field(max_length=64)]
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema", default_factory=dict)
    strict: bool | None = None


class PlainFormat(Strict):
    type: Literal["text", "json_object"]


class SchemaFormat(Strict):
    type: Literal["json_schema"]
    json_schema: JsonSchema


class StreamOptions(Strict):
    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class ChatRequest(Strict):
    model: Annotated[str, Field(max_length=200)] | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=MESSAGES_MOST)]
    continue_final_message: bool | None = None
    temperature: Temperature | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=TOP_K_MOST)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=STOPS_MOST)] | None = None
    n: Annotated[int, Field(ge=1, le=CHOICES_MOST)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] | None = None
    logit_bias: Annotated[dict[TokenId, Bias], Field(max_length=BIASES_MOST)] | None = None
    tools: Annotated[list[Tool], Field(min_length=1, max_length=TOOLS_MOST)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[Function], Field(min_length=1, max_length=TOOLS_MOST)] | None = None
    function_call: Literal["none", "auto"] | NamedFunction | None = None
    """OpenAI's older words for tools and the choice of one."""
    response_format: Annotated[PlainFormat | SchemaFormat, Field(discriminator="type")] | None = None
    guided_json: dict[str, Any] | None = None
    """Cloudflare's name for a `json_schema` format."""
    regex: Annotated[str, Field(min_length=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = None
    store: bool | None = None
    metadata: Metadata | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    """These three say who asks: accounts' caches are apart anyway, and like prefixes are found without a key."""
    modalities: Annotated[list[Literal["text"]], Field(min_length=1, max_length=1)] | None = None
    conversation_id: str | None = None
    conversation: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """A name of the client's own, which makes its conversation when it is first used; or an id."""
    raw: bool | None = None
    """The one message is the prompt as it stands: no chat template is applied."""
    echo: bool | None = None
    """The answer begins with the prompt, and its log probabilities with the prompt's."""
    background: bool | None = None
    """Do not wait: 202 at once, with a completion whose `status` is `queued`."""

    @model_validator(mode="after")
    def _fits_together(self) -> "ChatRequest":
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs: needs logprobs: true")
        if self.background and self.store is False:
            raise ValueError("background: needs store, or nobody could ever read the answer")
        if self.conversation is not None and self.conversation_id is not None:
            raise ValueError("conversation: goes without conversation_id; both name one")
        if self.stream_options and not self.stream:
            raise ValueError("stream_options: needs stream: true")
        return self

    @model_validator(mode="after")
    def _tools_can_be_called(self) -> "ChatRequest":
        if self.tools is None:
            if self.tool_choice not in (None, "none", "auto"):
                raise ValueError("tool_choice: needs tools")
            return self
        names = [tool.function.name for tool in self.tools]
        if (number := _repeated(names)) is not None:
            raise ValueError(f"tools[{number}].function.name: another tool has this name")
        if isinstance(self.tool_choice, NamedTool) and self.tool_choice.function.name not in names:
            raise ValueError("tool_choice.function.name: no tool has this name")
        return self

    @model_validator(mode="after")
    def _functions_can_be_called(self) -> "ChatRequest":
        if self.functions is None:
            if isinstance(self.function_call, NamedFunction):
                raise ValueError("function_call: needs functions")
            return self
        for name in ("tools", "tool_choice", "parallel_tool_calls"):
            if getattr(self, name) is not None:
                raise ValueError(f"{name}: goes with tools, and functions are their older name; send one of the two")
        names = [function.name for function in self.functions]
        if (number := _repeated(names)) is not None:
            raise ValueError(f"functions[{number}].name: another function has this name")
        if isinstance(self.function_call, NamedFunction) and self.function_call.name not in names:
            raise ValueError("function_call.name: no function has this name")
        return self

    @model_validator(mode="after")
    def _ends_well(self) -> "ChatRequest":
        last = self.messages[-1]
        where = f"messages[{len(self.messages) - 1}]"
        if not isinstance(last, AssistantMessage):
            if self.continue_final_message:
                raise ValueError(f"{where}.role: continue_final_message needs the assistant's message last")
        elif last.tool_calls:
            raise ValueError(f"{where}.tool_calls: their results have to follow, as messages of the role tool")
        elif last.function_call:
            raise ValueError(f"{where}.function_call: its result has to follow, as a message of the role function")
        elif not self.continue_final_message:
            raise ValueError(f"{where}.role: the assistant spoke last; continue_final_message: true lets it go on")
        elif len(self.messages) == 1:
            raise ValueError(f"{where}.role: there is nothing that the assistant could be answering")
        return self

    @model_validator(mode="after")
    def _is_a_prompt_if_raw(self) -> "ChatRequest":
        if not self.raw:
            if self.echo:
                raise ValueError("echo: needs raw: true")
            return self
        if len(self.messages) > 1 or self.messages[0].role != "user" or not isinstance(self.messages[0].content, str):
            raise ValueError("messages: raw takes one message of the user's, whose text is the prompt")
        if not self.messages[0].content:
            raise ValueError("messages[0].content: a raw prompt must not be empty")
        for name in ("tools", "functions"):
            if getattr(self, name):
                raise ValueError(f"{name}: no template tells the model of them where the prompt is raw")
        return self

    @model_validator(mode="after")
    def _answers_in_one_shape(self) -> "ChatRequest":
        shaped = self.response_format is not None and self.response_format.type != "text"
        shapes = {"response_format": shaped, "guided_json": self.guided_json is not None, "regex": bool(self.regex)}
        asked = [name for name, wanted in shapes.items() if wanted]
        if len(asked) > 1:
            raise ValueError(f"{asked[1]}: an answer has one shape, and {asked[0]} gives it one already")
        tools = self.tools and self.tool_choice != "none"
        if self.regex and (tools or (self.functions and self.function_call != "none")):
            raise ValueError("regex: binds the whole answer, so no tool could be called; set tool_choice to none")
        self._check_grammars()
        return self

    def _check_grammars(self) -> None:
        if isinstance(self.response_format, SchemaFormat):
            check_schemas({"response_format.json_schema.schema": self.response_format.json_schema.schema_})
        if self.guided_json is not None:
            check_schemas({"guided_json": self.guided_json})
        if self.regex:
            check_regex(self.regex, "regex")
        offered = {f"tools[{n}].function": tool.function for n, tool in enumerate(self.tools or ())}
        offered |= {f"functions[{n}]": function for n, function in enumerate(self.functions or ())}
        strict = {f"{where}.parameters": each.parameters or {} for where, each in offered.items() if each.strict}
        if strict:
            check_schemas(strict)


def _repeated(names: list[str]) -> int | None:
    """The place of the first that stands there a second time."""
    return next((number for number, name in enumerate(names) if name in names[:number]), None)


class JobRequest(ChatRequest):
    """A chat request that nobody waits for."""

    webhook_url: str | None = None
    deadline: int | None = None
    """Unix time, in seconds, after which the answer is of no use."""

    @model_validator(mode="after")
    def _nobody_holds_the_line(self) -> "JobRequest":
        if self.stream:
            raise ValueError("stream: a job is streamed from GET /v1/jobs/{id}/events")
        return self


NOT_FOR_THE_ENGINE = frozenset(
    {"model", "messages", "stream", "stream_options", "store", "metadata", "user", "safety_identifier"}
    | {
        "prompt_cache_key",
        "modalities",
        "service_tier",
        "conversation_id",
        "conversation",
        "webhook_url",
        "deadline",
        "background",
    }
)


def tier_of(parameters: Mapping[str, Any]) -> Tier:
    """The service tier that a request's parameters ask for."""
    return TIERS[parameters.get("service_tier") or "default"]


def engine_parameters(body: Mapping[str, Any]) -> dict[str, Any]:
    """What of a validated body the engine is to see beside the messages; one name for one thing, no nulls."""
    shown = as_tools(body)
    kept = {key: value for key, value in shown.items() if key not in NOT_FOR_THE_ENGINE and value is not None}
    limit = kept.pop("max_tokens", None)
    if limit is not None:
        kept.setdefault("max_completion_tokens", limit)
    if (schema := kept.pop("guided_json", None)) is not None:
        kept["response_format"] = {"type": "json_schema", "json_schema": {"name": "guided_json", "schema": schema}}
    if isinstance(choice := kept.get("tool_choice"), Mapping):
        kept["tools"] = _only(kept["tools"], choice["function"]["name"])
    return kept | _shape_beside_tools(kept)


def _shape_beside_tools(kept: dict[str, Any]) -> dict[str, Any]:
    """JSON is what an answer in words is to be; where a tool must be called, there are none."""
    if in_json_or_calls(kept):
        return {"response_format": json_or_calls(kept["response_format"], kept["tools"])}
    if in_json(kept) and kept.get("tools") and kept["tool_choice"] != "none":
        return {"response_format": {"type": "text"}}
    return {}


def _only(tools: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """SGLang shows the model only the tool that is named, and yet lets it call any: 0.5.23's grammar names all that came."""
    return [tool for tool in tools if tool["function"]["name"] == name]
