"""What may a message with places in it look like?  OpenAI's evals' (`input_text`, `output_text`, `input_image`), or a chat's.

Only the shape is looked at: what stands in the places, and whether a model takes what comes out, is said where they are filled.  A field
that is not here is refused by name, since filling would leave it out.  Source: openai-python 2.x, `types/evals`.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from models.errors import InvalidRequest
from models.wire.messages import ImageUrl, Strict
from models.wire.problems import validated


class TextPiece(Strict):
    type: Literal["text", "input_text", "output_text"]
    text: str


class ImagePiece(Strict):
    type: Literal["image_url", "input_image"]
    image_url: str | ImageUrl
    detail: Literal["auto", "low", "high"] | None = None


Piece = Annotated[TextPiece | ImagePiece, Field(discriminator="type")]


class TemplateMessage(Strict):
    type: Literal["message"] | None = None
    role: Literal["user", "assistant", "system", "developer"]
    content: str | Piece | Annotated[list[str | Piece], Field(min_length=1)]


class _Messages(Strict):
    messages: list[TemplateMessage]


def check_messages(messages: Any, place: str) -> None:
    """Raises InvalidRequest that names where under `place` something is wrong."""
    try:
        validated(_Messages, {"messages": messages})
    except InvalidRequest as error:
        where = (error.param or "").replace("messages", place, 1)
        raise InvalidRequest(error.message.replace("messages", place, 1), param=where, code=error.own_code) from None
