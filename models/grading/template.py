"""What does `{{ item.question }}` stand for?  Texts and messages with the values of an item, or of an answer, put in.

A place holds a path and nothing else: names and indices (`item.tags[0]`, `sample.output_json["a b"]`), no filters, no calls, no
attributes, so a caller's template runs no code.  What is put in is not read again.  Raises InvalidRequest for what is no path
(`check`), and with the code `missing_value` and the path as `param` for what an item or an answer does not have.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from models.errors import InvalidRequest, TooLarge
from models.grading.effort import make_room

RENDERED_CHARACTERS = 1_000_000
"""A template of a few bytes could otherwise repeat a long value without end; the longest context holds less."""
QUESTION_CHARACTERS = 4_000_000
"""Of a chat's texts together, those that no value was put in as well: what a request's body may hold."""
_PART_CHARACTERS = 50
"""What a part of a message is beside its text."""
MISSING = "missing_value"
ROOTS = frozenset({"item", "sample"})

_PLACE = re.compile(r"\{\{([^{}]*)\}\}")  # no braces inside: many that open and none that closes would take for ever
_ROOT = re.compile(r"[A-Za-z_]\w*")
_STEP = re.compile(r"""\.([\w-]+)|\[(-?\d{1,9})\]|\["([^"\]]*)"\]|\['([^'\]]*)'\]""")
_SHOWN_CHARACTERS = 80

Path = tuple[str | int, ...]
Namespace = Mapping[str, Any]
Fill = Callable[[str], str]


def render(text: str, namespace: Namespace) -> str:
    """The text with every place filled: texts as they are, null as nothing, all else as JSON."""
    parts, length, end = [], 0, 0
    for place in _PLACE.finditer(text):
        parts += [text[end : place.start()], written(value(place[1], namespace))]
        length, end = length + len(parts[-1]) + len(parts[-2]), place.end()
        if length > RENDERED_CHARACTERS:
            raise TooLarge(f"a rendered template is longer than {RENDERED_CHARACTERS:,} characters")
    return "".join([*parts, text[end:]])


def render_messages(messages: Sequence[Mapping[str, Any]], namespace: Namespace) -> list[dict[str, Any]]:
    """Messages for a chat: of OpenAI's evals (`input_text`, `output_text`, `input_image`) or already a chat's."""
    fill = _Chat(namespace).fill
    return [{"role": each["role"], "content": _content(each.get("content"), fill)} for each in messages]


def value(path: str, namespace: Namespace) -> Any:
    """What stands at `item.tags[0]`."""
    here: Any = namespace
    for step in steps(path):
        found = _below(here, step)
        if found is _NOTHING:
            raise InvalidRequest(f"there is no {path.strip()}", param=path.strip(), code=MISSING)
        here = found
    return here


def written(found: Any) -> str:
    if isinstance(found, str):
        return found
    try:
        return "" if found is None else orjson.dumps(found).decode()
    except TypeError:  # orjson's limit of nesting
        raise InvalidRequest("a value is nested too deeply to be written") from None


def check(text: str, param: str, roots: frozenset[str] = ROOTS) -> None:
    """Whether every place holds a path that begins at one of the roots."""
    for place in _PLACE.finditer(text):
        try:
            path = steps(place[1])
        except InvalidRequest as error:
            raise InvalidRequest(f"{param}: {error.message}", param=param) from None
        if path[0] not in roots:
            known = " and ".join(sorted(roots))
            raise InvalidRequest(f"{param}: {path[0]!r} is not known here; {known} are", param=param)


def texts_of(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Every text in messages that may hold places."""
    for message in messages:
        content = message.get("content")
        for part in content if isinstance(content, list) else [content]:
            yield from _texts_in(part)


def length_of(messages: Sequence[Mapping[str, Any]]) -> int:
    return sum(map(len, texts_of(messages)))


def steps(path: str) -> Path:
    text = path.strip()
    root = _ROOT.match(text)
    if root is None:
        raise _no_path(text)
    found: list[str | int] = [root[0]]
    end = root.end()
    while end < len(text):
        step = _STEP.match(text, end)
        if step is None:
            raise _no_path(text)
        name = next((group for group in (step[1], step[3], step[4]) if group is not None), None)
        found.append(int(step[2]) if name is None else name)
        end = step.end()
    return tuple(found)


_NOTHING = object()


def _below(here: Any, step: str | int) -> Any:
    if isinstance(here, Mapping):
        return here.get(str(step), _NOTHING)
    if not isinstance(here, list | tuple):
        return _NOTHING
    index = int(step) if isinstance(step, int) or (step.isascii() and step.isdigit() and len(step) <= 9) else None  # noqa: PLR2004
    return here[index] if index is not None and -len(here) <= index < len(here) else _NOTHING


def _no_path(text: str) -> InvalidRequest:
    shown = text[:_SHOWN_CHARACTERS]
    return InvalidRequest(f"{{{{ {shown} }}}} is no path such as item.question or item.tags[0]; nothing else is taken")


def _texts_in(part: Any) -> Iterator[str]:
    if isinstance(part, str):
        yield part
    elif isinstance(part, Mapping):
        image = part.get("image_url")
        inner = image.get("url") if isinstance(image, Mapping) else image
        yield from (each for each in (part.get("text"), inner) if isinstance(each, str))


class _Chat:
    """Its texts are counted as they are made: a part of a few bytes could otherwise hold a long value again and again."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace, self._left = namespace, QUESTION_CHARACTERS

    def fill(self, text: str) -> str:
        made = render(text, self._namespace)
        cost = _PART_CHARACTERS + len(made)
        self._left -= cost
        if self._left < 0:
            raise TooLarge(f"rendered messages come to more than {QUESTION_CHARACTERS:,} characters")
        make_room(cost)
        return made


def _content(content: Any, fill: Fill) -> Any:
    if isinstance(content, str):
        return fill(content)
    if isinstance(content, Mapping):
        content = [content]
    if not isinstance(content, list):
        return content
    parts = [_part(part, fill) for part in content]
    if all(part["type"] == "text" for part in parts):  # assistants and systems say nothing but text, in one piece
        return "\n".join(part["text"] for part in parts)
    return parts


def _part(part: Any, fill: Fill) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": fill(part)}
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind in {"text", "input_text", "output_text"}:
        return {"type": "text", "text": fill(str(part.get("text", "")))}
    if kind in {"input_image", "image_url"}:
        return {"type": "image_url", "image_url": _image(part, fill)}
    raise InvalidRequest(f"content of the type {kind!r} is not taken; input_text, output_text and input_image are")


def _image(part: Mapping[str, Any], fill: Fill) -> dict[str, Any]:
    source = part.get("image_url")
    known = source if isinstance(source, Mapping) else {"url": source, "detail": part.get("detail")}
    detail = {"detail": known["detail"]} if known.get("detail") else {}
    return {"url": fill(str(known.get("url", ""))), **detail}
