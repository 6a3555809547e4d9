"""What do our answers look like?  For the API's document only: views are made beside what they show, and no answer passes these.

A field without a default is always there.  Relies on tests/flow/test_openapi.py to compare with what is really sent, a field too many
included; readers of answers should overlook what they do not know.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[int, Field(description="Unix time in seconds")]
Milliseconds = Annotated[int, Field(ge=0)]
JobId = Annotated[str, Field(pattern="^job_[0-9a-z]{26}$")]
CompletionId = Annotated[str, Field(pattern="^chatcmpl-[0-9a-z]{26}$")]


class Shape(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)
