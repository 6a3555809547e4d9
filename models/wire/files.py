"""What does an upload say of its file, and how does a file look?  OpenAI's Files.

A form's values are words; its names have brackets where JSON would nest.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.files import BATCH_KEPT_S, UPLOADED, Purpose
from models.tables.files import File

KEPT_LEAST_S, KEPT_MOST_S = 3_600, 30 * 86_400
"""As with OpenAI."""
_ANCHOR, _SECONDS = "expires_after[anchor]", "expires_after[seconds]"


class FileForm(BaseModel):
    model_config = ConfigDict(extra="forbid")

    purpose: Purpose
    anchor: Literal["created_at"] | None = Field(None, alias=_ANCHOR)
    seconds: int | None = Field(None, ge=KEPT_LEAST_S, le=KEPT_MOST_S, alias=_SECONDS)

    @model_validator(mode="after")
    def _callers_own(self) -> "FileForm":
        if self.purpose not in UPLOADED:
            raise ValueError("purpose: files with this purpose are made here, not uploaded")
        if (self.anchor is None) != (self.seconds is None):
            raise ValueError(f"{_ANCHOR if self.anchor is None else _SECONDS}: has to be given, too")
        return self

    @property
    def kept_s(self) -> int | None:
        """None: until it is deleted."""
        return self.seconds or (BATCH_KEPT_S if self.purpose is Purpose.BATCH else None)


def file_view(file: File) -> dict[str, Any]:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": file.created_ms // 1000,
        "expires_at": None if file.expires_ms is None else file.expires_ms // 1000,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }
