"""How does the API's document read, for people and for models?  One page of HTML, and llms.txt (llmstxt.org), from the same data.

The page is whole in itself: no script, and nothing fetched from elsewhere.  FastAPI's own loads Swagger UI from a CDN, which leaves
it blank on a machine without internet; the packages that bundle Swagger UI (swagger-ui-bundle, 8 MB; fastapi-offline, 3 MB) cost
more than they give: a form to send requests with, for which `curl` and any program that opens /openapi.json do.
"""

import json
from collections.abc import Iterable, Iterator
from html import escape
from typing import Any

from models.cards.card import Card

Json = dict[str, Any]
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "code,pre{font:14px/1.4 ui-monospace,monospace}pre{background:#8881;padding:.6rem;overflow:auto}"
    "table{border-collapse:collapse}td,th{text-align:left;vertical-align:top;padding:.15rem .8rem .15rem 0}"
    "section{border-top:1px solid #8885;margin-top:1.5rem}:root{color-scheme:light dark}"
)
_ABOUT = (
    "A self-hosted chat-job service with OpenAI's wire: every chat is a job, answered as a stream, waited for, "
    "or delivered by signed webhook."
)
_KEY = "Every path below `/v1` wants the header `Authorization: Bearer KEY`; `tram keys create` makes a key."
_ASK = (
    """curl $URL/v1/chat/completions -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" -d '{body}'"""
)


def reference(document: Json) -> str:
    operations = list(_operations(document))
    parts = [
        f"<h1>{escape(document['info']['title'])} {escape(document['info']['version'])}</h1>",
        f'<p>{_code(_ABOUT)} {_code(_KEY)} For programs: <a href="/openapi.json">/openapi.json</a>.</p>',
        _contents(operations),
        *(_operation(document, *each) for each in operations),
        "<h2>Webhooks</h2>",
        *(_operation(document, "POST", "your server", methods["post"]) for methods in document["webhooks"].values()),
        "<h2>Shapes</h2>",
        *(_shape(name, schema) for name, schema in document["components"]["schemas"].items()),
    ]
    title = escape(document["info"]["title"])
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>'


def llms(document: Json, cards: Iterable[Card]) -> str:
    tags: dict[str, list[str]] = {}
    for method, path, operation in _operations(document):
        line = f"- [{method} {path}](/docs#{operation['operationId']}): {operation['summary']}"
        tags.setdefault(operation["tags"][0], []).append(line)
    chat = document["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]["example"]
    parts = [
        f"# {document['info']['title']}",
        f"> {_ABOUT}",
        f"{_KEY} Unmodified OpenAI clients work with this server's `/v1` as base URL. Errors have OpenAI's envelope.",
        "```sh\n" + _ASK.replace("{body}", json.dumps(chat)) + "\n```",
        "## Docs\n\n- [Reference](/docs): every path, field and error\n- [OpenAPI 3.1](/openapi.json): the same for programs",
        *(f"## {tag}\n\n" + "\n".join(lines) for tag, lines in tags.items()),
        "## Model names\n\n" + "\n".join(_model(card) for card in cards),
    ]
    return "\n\n".join(parts) + "\n"


def _model(card: Card) -> str:
    return (
        f"- `{card.id}`: {card.description} Context {card.context_tokens} tokens; reads {', '.join(card.modalities)}."
    )


def _operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def _contents(operations: list[tuple[str, str, Json]]) -> str:
    rows = (
        f'<tr><td><a href="#{each["operationId"]}"><code>{method} {escape(path)}</code></a><td>{_code(each["summary"])}'
        for method, path, each in operations
    )
    return f"<table>{''.join(rows)}</table>"


def _operation(document: Json, method: str, path: str, operation: Json) -> str:
    name = operation["operationId"]
    parts = [f'<section id="{name}"><h3><code>{method} {escape(path)}</code></h3><p>{_code(operation["summary"])}</p>']
    if told := operation.get("description"):
        parts.append(f"<p>{_code(told)}</p>")
    parts.append(_rows((each["name"], each["in"], each.get("description", "")) for each in operation["parameters"]))
    if body := operation.get("requestBody"):
        parts += [_body(kind, each) for kind, each in body["content"].items()]
    told = {status: _followed(document, each) for status, each in operation["responses"].items()}
    answers = ((status, _kinds(each), each["description"]) for status, each in told.items())
    return "".join([*parts, _rows(answers), "</section>"])


def _followed(document: Json, answer: Json) -> Json:
    name = answer.get("$ref", "").rpartition("/")[2]
    return document["components"]["responses"][name] if name else answer


def _body(kind: str, content: Json) -> str:
    example = content.get("example")
    shown = f"<pre>{escape(json.dumps(example, indent=2))}</pre>" if example else ""
    told = "" if kind == "application/json" else f" ({escape(kind)})"
    return f"<p>Body{told}: {_type(content['schema'])}</p>{shown}"


def _kinds(answer: Json) -> str:
    return ", ".join(f"{kind}: {_type(each['schema'])}" for kind, each in answer.get("content", {}).items())


def _rows(rows: Iterable[tuple[str, str, str]]) -> str:
    cells = (f"<tr><td><code>{escape(name)}</code><td>{kind}<td>{_code(told)}" for name, kind, told in rows)
    return f"<table>{''.join(cells)}</table>"


def _shape(name: str, schema: Json) -> str:
    needed = set(schema.get("required", ()))
    fields = (
        (field, _type(each) + ("" if field in needed else ", optional"), each.get("description", ""))
        for field, each in schema.get("properties", {}).items()
    )
    words = _code(schema.get("description", "")) or escape(", ".join(map(str, schema.get("enum", ()))))
    words += f" {_type(schema)}" if "anyOf" in schema else ""
    return f'<section id="{name}"><h3><code>{name}</code></h3><p>{words}</p>{_rows(fields)}</section>'


def _type(schema: Json) -> str:
    """In few words: a link to a shape, a type, or what it may be."""
    if "$ref" in schema:
        return _link(schema)
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(_type(each) for each in schema[several]))
    if "allOf" in schema:
        return _type(schema["allOf"][0])
    if "const" in schema or "enum" in schema:
        return escape(", ".join(json.dumps(each) for each in schema.get("enum", [schema.get("const")])))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    kind = schema.get("type", "anything")
    return escape(" or ".join(kind) if isinstance(kind, list) else kind)


def _link(schema: Json) -> str:
    name = schema["$ref"].rpartition("/")[2]
    return f'<a href="#{name}">{name}</a>'


def _code(text: str) -> str:
    """Escaped, with what stands between backticks as code."""
    parts = escape(text, quote=False).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))
