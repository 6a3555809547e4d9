"""How is said which conversations somebody wants?  The query parameters of their list and their export, and what they mean."""

from typing import Annotated, Literal

from fastapi import Query, Request

from api.answers import metadata_asked
from models.searches import Wanted

_LATEST_S = 253_402_300_799  # the end of the year 9999; in milliseconds it still fits the column
TEXT_CHARACTERS = 1000
Time = Annotated[int | None, Query(ge=0, le=_LATEST_S, description="Unix time in seconds")]


def filters(
    request: Request,
    name: Annotated[str | None, Query(max_length=64, description="What the client calls it")] = None,
    text: Annotated[
        str | None, Query(max_length=TEXT_CHARACTERS, description="Words, all of which stand in its messages or title")
    ] = None,
    model: Annotated[str | None, Query(max_length=200, description="One that has answered in it")] = None,
    tag: Annotated[str | None, Query(max_length=100, description="One of its turns'")] = None,
    status: Annotated[
        Literal["completed", "failed", "cancelled", "expired"] | None, Query(description="How one of its turns ended")
    ] = None,
    created_after: Time = None,
    created_before: Time = None,
    updated_after: Time = None,
    updated_before: Time = None,
) -> Wanted:
    return Wanted(
        name=name,
        text=text,
        model=model,
        tag=tag,
        status=status,
        metadata=dict(metadata_asked(request)),
        created_after_ms=_ms(created_after),
        created_before_ms=_ms(created_before),
        updated_after_ms=_ms(updated_after),
        updated_before_ms=_ms(updated_before),
    )


def _ms(seconds: int | None) -> int | None:
    return None if seconds is None else seconds * 1000
