"""What are a run's questions?  Items out of lines or bodies, held against the eval's schema, and the chat that each becomes.

Pure rules over what was sent.  A mistake is told with its place: the line of a file, the row of a body.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from models.errors import InvalidRequest, TooLarge
from models.grading.effort import CHECK_S, Effort
from models.grading.schemas import problem
from models.grading.template import render_messages, value
from models.wire import bodies
from models.wire.chat import ChatRequest
from models.wire.evals import ITEMS_MOST, CompletionsSource, Given, ItemReference
from models.wire.problems import validated
from models.wire.sampling import as_given, chat_parameters

RUN_CHARACTERS = 500_000_000
"""Of the chats that templates make of a run's items, and again with what judges are asked about them: 25,000 for each of the most items."""
INLINE = "data_source.source.content"
_FILE = "data_source.source.id"


@dataclass(frozen=True, slots=True)
class Item:
    """A row of the data; `given` is the answer that came with it."""

    item: dict[str, Any]
    given: dict[str, Any] | None = None
    where: str = INLINE


def inline(rows: Sequence[Given]) -> list[Item]:
    return [Item(row.item, row.sample, f"{INLINE}[{number}]") for number, row in enumerate(rows)]


def from_lines(lines: Iterable[bytes]) -> Iterator[Item]:
    """Of a JSONL file.  Raises InvalidRequest that names the line."""
    found = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        found += 1
        if found > ITEMS_MOST:
            raise _of_file(f"the file has more than {ITEMS_MOST:,} items")
        yield _read(line, f"line {number}")
    if not found:
        raise _of_file("the file holds no items")


def checked(items: Iterable[Item], schema: Mapping[str, Any] | None) -> list[Item]:
    """The items, each fit for the eval's schema.  Raises InvalidRequest for the first that is not."""
    found = []
    with Effort(CHECK_S):
        for each in items:
            trouble = _misfit(schema, each) if schema else None
            if trouble is not None:
                raise InvalidRequest(f"{each.where}: {trouble}", param=each.where)
            found.append(each)
    return found


def check_chats(source: CompletionsSource, items: Sequence[Item], check: Callable[[dict[str, Any]], None]) -> None:
    """Raises InvalidRequest for the first item that becomes no request, or one that `check` refuses."""
    told = source.model_dump(exclude_none=True)
    with Effort(characters=RUN_CHARACTERS):
        for each in items:
            try:
                body = chat(told, each.item)
                validated(ChatRequest, body)
                check(body)
            except InvalidRequest as error:
                raise _placed(error, each, source) from None


def chat(source: Mapping[str, Any], item: Mapping[str, Any]) -> dict[str, Any]:
    """The request that an item becomes, by a `data_source`.  Raises InvalidRequest."""
    asked = chat_parameters(source.get("sampling_params") or {})
    return {"model": source["model"], "messages": messages_of(source, item), **asked}


def messages_of(source: Mapping[str, Any], item: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the model is asked, by a `data_source`'s `input_messages`.  Raises InvalidRequest."""
    wanted, namespace = source["input_messages"], {"item": item}
    if wanted["type"] == "template":
        return render_messages(wanted["template"], namespace)
    found = value(wanted["item_reference"], namespace)
    if isinstance(found, str):
        return [{"role": "user", "content": found}]
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise InvalidRequest(f"{wanted['item_reference']} holds no messages", param="data_source.input_messages")
    return found


def sample_of(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """What graders see of an answer that came with its item."""
    if given is None:
        return {}
    choices = given.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, dict) else None
    said = answered(message) if isinstance(message, dict) else {}
    text = given.get("output_text")
    return said | (parsed(text) if isinstance(text, str) else {}) | dict(given)


def answered(message: Mapping[str, Any]) -> dict[str, Any]:
    """What graders see of an assistant's message."""
    calls = message.get("tool_calls")
    read = [_read_call(call) for call in calls] if isinstance(calls, list) else []
    return parsed(message.get("content") or "") | {"output_tools": read}


def _read_call(call: Any) -> Any:
    """With the arguments as values, since templates look into them; as they are, where they are no JSON."""
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(arguments := function.get("arguments"), str):
        return call
    try:
        return {**call, "function": {**function, "arguments": orjson.loads(arguments)}}
    except orjson.JSONDecodeError:
        return call


def parsed(text: str) -> dict[str, Any]:
    try:
        return {"output_text": text, "output_json": orjson.loads(text)}
    except orjson.JSONDecodeError:
        return {"output_text": text, "output_json": None}


def _misfit(schema: Mapping[str, Any], each: Item) -> str | None:
    try:
        trouble = problem(schema, each.item)
    except TooLarge:
        return f"holding the items up to here against the eval's schema took {CHECK_S:g} s; a simpler one is wanted"
    return trouble and f"the item does not fit the eval's schema: {trouble}"


def _read(line: bytes, where: str) -> Item:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise _of_file(f"{where} is not valid JSON: {error}") from None
    if not isinstance(row, dict) or not isinstance(row.get("item"), dict):
        raise _of_file(f"{where} has no `item` that is a JSON object")
    if unknown := sorted(row.keys() - {"item", "sample"}):
        raise _of_file(f"{where}: {unknown[0][:80]!r} is not known here; `item` and `sample` are")
    if not isinstance(row.get("sample", {}), dict):
        raise _of_file(f"{where}: `sample` has to be a JSON object")
    try:
        bodies.check(line, row)
    except InvalidRequest as error:
        raise _of_file(f"{where}: {error.message}") from None
    return Item(row["item"], row.get("sample"), where)


def _of_file(why: str) -> InvalidRequest:
    return InvalidRequest(why, param=_FILE)


def _placed(error: InvalidRequest, each: Item, source: CompletionsSource) -> InvalidRequest:
    """Whose fault it is: a parameter's, or that of what this item makes of the messages."""
    param, given = error.param or "", source.sampling_params or {}
    name = param.partition(".")[0].partition("[")[0]
    own = as_given(name, given)
    if own in given:
        where = f"data_source.sampling_params.{param if own == name else own}"
        return InvalidRequest(error.message.replace(param, where, 1), param=where, code=error.own_code)
    where = "input_messages" if isinstance(source.input_messages, ItemReference) else "input_messages.template"
    return InvalidRequest(f"{each.where}: data_source.{where}: {error.message}", param=f"data_source.{where}")
