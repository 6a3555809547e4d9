"""How do routes shape what they send back?  JSON by orjson, lists as OpenAI's pages."""

from typing import Annotated, Any, Literal

import orjson
from fastapi import Query
from starlette.responses import Response

from models.listings import LIMIT_MOST, Window


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body), status, headers=headers, media_type="application/json")


def page_of(rows: list[dict[str, Any]], *, has_more: bool) -> Response:
    """OpenAI's list: the last id is the next page's `after`."""
    first, last = (rows[0]["id"], rows[-1]["id"]) if rows else (None, None)
    return json_response({"object": "list", "data": rows, "first_id": first, "last_id": last, "has_more": has_more})


def window(
    after: Annotated[str | None, Query(max_length=64, description="The last id of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=LIMIT_MOST)] = 20,
    order: Literal["asc", "desc"] = "desc",
) -> Window:
    return Window(after, limit, order == "asc")
