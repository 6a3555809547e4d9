"""How do files look, and the form they come in?"""

from typing import Annotated, Literal

from pydantic import Field

from models.files import UPLOADED, Purpose
from models.wire.files import KEPT_LEAST_S, KEPT_MOST_S
from models.wire.shapes import Seconds, Shape

FileId = Annotated[str, Field(pattern="^file-[0-9a-z]{26}$")]


class Upload(Shape):
    file: Annotated[str, Field(json_schema_extra={"contentMediaType": "application/octet-stream"})]
    purpose: Annotated[Purpose, Field(json_schema_extra={"enum": sorted(UPLOADED)})]
    anchor: Literal["created_at"] | None = Field(None, alias="expires_after[anchor]")
    seconds: int | None = Field(None, ge=KEPT_LEAST_S, le=KEPT_MOST_S, alias="expires_after[seconds]")
    """How long it is kept; else a batch's file 30 days, and others until they are deleted."""


class File(Shape):
    id: FileId
    object: Literal["file"]
    bytes: int
    created_at: Seconds
    expires_at: Seconds | None
    filename: str
    purpose: Purpose
    status: Literal["processed"]
    status_details: None


class DeletedFile(Shape):
    id: FileId
    object: Literal["file"]
    deleted: Literal[True]


class SignedLink(Shape):
    url: str
    """Needs no key."""
    expires_at: Seconds
    expires_in: int
