"""What does the API say of itself, for programs?  OpenAPI 3.1, made from the routes and `api.contract`.

Made when it is first asked for: no request's way and no start pays for it.  Paths, summaries and query parameters are what FastAPI
finds in the routes' signatures; bodies are read by hand there, so they and all answers come from the contract's shapes.  A route
that is not in the contract stays bare, and a test fails.
"""

from collections.abc import Iterable
from functools import cache
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from api.contract import ANY, EVENTS, EXAMPLES, JSON, ROUTES, STREAM, Route, Shape
from api.vocabulary import ADVICE, CODES, EVENT_HEADERS, EVERYWHERE, HEADERS, QUERY, SELDOM, TAKEN
from models.wire.errors import TABLE
from models.wire.shapes.chat import Error

_REFERENCE = "#/components/schemas/{model}"
Json = dict[str, Any]


class _Plain(GenerateJsonSchema):
    """Without a title on every field, which only repeats its name."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False


@cache
def document(app: FastAPI) -> Json:
    found = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            _describe(operation, ROUTES.get(f"{method.upper()} {path}"))
    events = {name: {"post": _event(name, body)} for name, body in EVENTS.items()}
    schemas = found["components"]["schemas"] | _schemas()
    for leftover in ("HTTPValidationError", "ValidationError"):  # FastAPI's own: ours are the envelope
        schemas.pop(leftover, None)
    bearer = {"type": "http", "scheme": "bearer", "description": "An API key, as `tram keys create` prints it"}
    refusals = {_word(status): _refusal(status) for status in sorted({wire.status for wire in TABLE.values()})}
    components = {
        "schemas": dict(sorted(schemas.items())),
        "responses": refusals,
        "securitySchemes": {"bearer": bearer},
    }
    return found | {"webhooks": events, "components": components, "security": [{"bearer": []}]}


def _describe(operation: Json, route: Route | None) -> None:
    operation.pop("responses")
    if route is None:
        return
    operation["tags"] = [route.tag]
    operation["responses"] = dict(sorted(_responses(route).items()))
    headers = [_parameter(name, "header", HEADERS[name], TAKEN.get(name)) for name in ("x-request-id", *route.takes)]
    operation["parameters"] = [*operation.get("parameters", ()), *map(_query, route.query), *headers]
    if route.body:
        operation["requestBody"] = _body(route.body, route.takes_in)
    if route.file:
        content = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
        operation["requestBody"] = {"required": True, "content": content}
    if route.open:
        operation["security"] = []


def _responses(route: Route) -> dict[str, Json]:
    """By status."""
    refused = route.refuses if route.open else (*ANY, *route.refuses)
    found = {str(status): _refused(status, route.refusal) for status in refused}
    for status, shape in ((route.status, route.answer), *route.also):
        found[str(status)] = _answer(status, shape, route)
    return found


def _answer(status: int, shape: Shape | str | None, route: Route) -> Json:
    content: Json = {}
    if isinstance(shape, str):
        content[shape] = {"schema": {"type": "string"}} if shape != JSON else {"schema": {"type": "object"}}
    elif shape is not None:
        content[JSON] = {"schema": _page(shape) if route.page else _reference(shape)}
    names = [*EVERYWHERE, *route.gives]
    if route.streams and status == HTTPStatus.OK:
        content[STREAM] = _events(route.streams)
    told = {"description": HTTPStatus(status).phrase, "headers": _headers(names, status)}
    content |= {kind: {"schema": {}} for kind in route.kinds if status == HTTPStatus.OK}
    return told | {"content": content} if content else told


def _events(shapes: Iterable[Shape]) -> Json:
    """OpenAPI 3.1 has no word for a stream: the schema is that of one event."""
    said = {"anyOf": [*map(_reference, shapes), {"type": "object", "maxProperties": 0}]}
    data = {"anyOf": [{"const": "[DONE]"}, {"type": "string", "contentMediaType": JSON, "contentSchema": said}]}
    names = {"type": "string", "enum": ["message", "restart", "end"], "description": "The last two are a job's"}
    where = {"type": "string", "description": "What Last-Event-ID takes"}
    properties = {"id": where, "event": names, "data": data}
    return {"schema": {"type": "object", "properties": properties, "required": ["data"]}}


def _refusal(status: int) -> Json:
    codes = sorted(set(_codes(status)))
    told = f"{HTTPStatus(status).phrase}: {', '.join(f'`{code}`' for code in codes)}"
    kinds = sorted({wire.type for wire in TABLE.values() if wire.status == status})
    named = {"properties": {"error": {"properties": {"type": {"enum": kinds}, "code": {"enum": codes}}}}}
    schema = {"allOf": [_reference(Error), named]}
    headers = _headers([*EVERYWHERE, *ADVICE.get(status, ())], status)
    return {"description": told, "headers": headers, "content": {JSON: {"schema": schema}}}


def _refused(status: int, shape: Shape) -> Json:
    if shape is Error:
        return {"$ref": f"#/components/responses/{_word(status)}"}
    headers = _headers([*EVERYWHERE, *ADVICE.get(status, ())], status)
    return {"description": _word(status), "headers": headers, "content": {JSON: {"schema": _reference(shape)}}}


def _word(status: int) -> str:
    return HTTPStatus(status).phrase.title().replace(" ", "")


def _codes(status: int) -> Iterable[str]:
    for kind, wire in TABLE.items():
        if wire.status == status:
            yield kind.code
            yield from CODES.get(kind, ())


def _headers(names: Iterable[str], status: int) -> Json:
    """A header may be one of those that are not on every answer with this status."""
    told = {"schema": {"type": "string"}}
    return {
        name: {"description": HEADERS[name], "required": status not in SELDOM.get(name, ()), **told} for name in names
    }


def _parameter(name: str, where: str, told: str, schema: Json | None = None, *, required: bool = False) -> Json:
    return {
        "name": name,
        "in": where,
        "required": required,
        "description": told,
        "schema": schema or {"type": "string"},
    }


def _query(name: str) -> Json:
    if name != "metadata":
        return _parameter(name, "query", QUERY[name])
    pairs = {"type": "object", "additionalProperties": {"type": "string"}}
    return _parameter(name, "query", QUERY[name], pairs) | {"style": "deepObject", "explode": True}


def _body(shape: Shape, kind: str = JSON) -> Json:
    content: Json = {"schema": _reference(shape)}
    if shape in EXAMPLES:
        content["example"] = EXAMPLES[shape]
    return {"required": True, "content": {kind: content}}


def _event(name: str, body: Shape) -> Json:
    subject, _, state = name.rpartition(".")
    headers = [_parameter(header, "header", told, required=True) for header, told in EVENT_HEADERS.items()]
    answers = {
        "2XX": {"description": "Taken; it is not sent again"},
        "410": {"description": "No more of this event"},
        "default": {"description": "Tried again, over three days"},
    }
    return {
        "summary": f"A {'job' if subject == 'chat.completion' else subject} with a `webhook_url` has ended: {state}",
        "operationId": name.replace(".", "_"),
        "tags": ["Webhooks"],
        "parameters": headers,
        "requestBody": _body(body),
        "responses": answers,
        "security": [],
    }


def _reference(shape: Shape) -> Json:
    return {"$ref": _REFERENCE.format(model=shape.__name__)}


def _page(shape: Shape) -> Json:
    return {"$ref": _REFERENCE.format(model=f"{shape.__name__}Page")}


def _schemas() -> Json:
    routes = ROUTES.values()
    told: set[Shape] = {Error, *EVENTS.values()}
    for route in routes:
        shapes = (route.answer, route.body, route.refusal, *route.streams, *(shape for _, shape in route.also))
        told |= {shape for shape in shapes if isinstance(shape, type) and issubclass(shape, BaseModel)}
    ordered = sorted(told, key=lambda shape: shape.__name__)
    _, found = models_json_schema(
        [(shape, "validation") for shape in ordered], ref_template=_REFERENCE, schema_generator=_Plain
    )
    pages = {route.answer for route in routes if route.page and not isinstance(route.answer, str)}
    schemas: Json = found["$defs"]
    return schemas | {f"{shape.__name__}Page": _page_of(shape) for shape in pages}


def _page_of(shape: Shape) -> Json:
    name = {"type": ["string", "null"]}
    properties = {
        "object": {"const": "list"},
        "data": {"type": "array", "items": _reference(shape)},
        "first_id": name,
        "last_id": name | {"description": "`after` of the next page"},
        "has_more": {"type": "boolean"},
    }
    return {"type": "object", "properties": properties, "required": list(properties)}
