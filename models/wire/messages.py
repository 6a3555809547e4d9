"""What may be said to a model, and what may it be given to call?  OpenAI's messages, content parts and tools.

These only validate: what reaches the engine is the parsed body itself, so texts and tool schemas arrive unchanged.  A field that
is not here is refused by name.  Whether an image is one is not asked here (`models.wire.images`): that depends on the model.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

MESSAGES_MOST = 4096
"""More turns than this is a mistake: the longest context holds fewer."""
TOOLS_MOST = 128


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class TextPart(Strict):
    type: Literal["text"]
    text: str


class ImageUrl(Strict):
    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(Strict):
    type: Literal["image_url"]
    image_url: ImageUrl


Text = str | Annotated[list[TextPart], Field(min_length=1, fail_fast=True)]
"""The first part that is wrong tells enough: a body has room for a million, and each would be told in several errors."""
Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class FunctionCall(Strict):
    name: str
    arguments: str
    parsed_arguments: Any = None
    """Added by the OpenAI SDK's helpers, whose messages are sent back as they are."""


class ToolCall(Strict):
    id: str
    type: Literal["function"]
    function: FunctionCall
    index: int | None = None
    """As in a streamed call, from which they make this one."""


class SystemMessage(Strict):
    role: Literal["system", "developer"]
    content: Text
    name: str | None = None


class UserMessage(Strict):
    role: Literal["user"]
    content: str | Annotated[list[Part], Field(min_length=1, fail_fast=True)]
    name: str | None = None


class AssistantMessage(Strict):
    role: Literal["assistant"]
    content: Text | None = None
    name: str | None = None
    refusal: str | None = None
    parsed: Any = None
    annotations: list[Any] | None = None
    audio: None = None
    """These three the SDK adds, too."""
    function_call: FunctionCall | None = None
    tool_calls: Annotated[list[ToolCall], Field(min_length=1, fail_fast=True)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "AssistantMessage":
        if self.content is None and self.tool_calls is None and self.function_call is None:
            raise ValueError("an assistant message needs content or tool_calls")
        if self.tool_calls and self.function_call:
            raise ValueError("a call is told as one of tool_calls and function_call")
        return self


class ToolMessage(Strict):
    role: Literal["tool"]
    content: Text
    tool_call_id: str
    name: str | None = None


class FunctionMessage(Strict):
    """A tool's result in OpenAI's older words."""

    role: Literal["function"]
    content: str | None
    name: str


Message = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage, Field(discriminator="role")
]


class Function(Strict):
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Strict):
    type: Literal["function"]
    function: Function


class NamedFunction(Strict):
    name: str


class NamedTool(Strict):
    type: Literal["function"]
    function: NamedFunction
