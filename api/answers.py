"""How do routes shape what they send back?  JSON by orjson, lists as OpenAI's pages."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import orjson
from fastapi import Query
from sqlalchemy import ColumnElement
from starlette.requests import Request
from starlette.responses import Response

from models.errors import InvalidRequest
from models.ids import job_of
from models.listings import LIMIT_MOST, Window, tells
from models.wire.chat import METADATA_MOST


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body), status, headers=headers, media_type="application/json")


def page_of(rows: list[dict[str, Any]], *, has_more: bool) -> Response:
    """OpenAI's list: the last id is the next page's `after`."""
    return page_named([row["id"] for row in rows], rows, has_more=has_more)


def page_named(names: Sequence[str], rows: Sequence[Any], *, has_more: bool) -> Response:
    """Of rows that may be JSON already (`orjson.Fragment`)."""
    first, last = (names[0], names[-1]) if names else (None, None)
    return json_response({"object": "list", "data": rows, "first_id": first, "last_id": last, "has_more": has_more})


def metadata_filters(request: Request) -> list[ColumnElement[bool]]:
    """`metadata[key]=value`, as OpenAI's list of stored completions takes it."""
    return [tells(key, value) for key, value in metadata_asked(request)]


def metadata_asked(request: Request) -> list[tuple[str, str]]:
    pairs = request.query_params.multi_items()
    wanted = [(key[9:-1], value) for key, value in pairs if key.startswith("metadata[") and key.endswith("]")]
    if len(wanted) > METADATA_MOST:
        raise InvalidRequest(f"metadata: at most {METADATA_MOST} keys, as many as there can be", param="metadata")
    return wanted


def window(
    after: Annotated[str | None, Query(max_length=64, description="The last id of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=LIMIT_MOST)] = 20,
    order: Literal["asc", "desc"] = "desc",
) -> Window:
    return Window(after, limit, order == "asc")


def window_ascending(
    after: Annotated[str | None, Query(max_length=64, description="The last id of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=LIMIT_MOST)] = 20,
    order: Literal["asc", "desc"] = "asc",
) -> Window:
    """OpenAI lists stored completions oldest first."""
    return Window(job_of(after) if after else None, limit, order == "asc")
