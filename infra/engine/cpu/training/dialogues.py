"""What does the demo model know, and how does a dialogue read once it is written out?

`dialogues.jsonl` holds one dialogue a line: `messages` and `tools` are OpenAI's; `also` are other wordings to train on and
`unseen` ones to keep out of training, by the message's index; `forced_json` is the object wanted under a grammar;
`system_matters` keeps its system prompt as it is.

A text is a list of pieces, cut where control tokens stand, so that encoding piece by piece is encoding the whole.  Each piece
says whether the model learns it: no, yes, or all but the given parts of it, which a grammar forces upon the model.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

Dialogue = dict[str, Any]
Message = dict[str, Any]
Learned = bool | set[str]
Piece = tuple[str, Learned]

END = "</s>"
_FILE = Path(__file__).with_name("dialogues.jsonl")


def load() -> list[Dialogue]:
    return [json.loads(line) for line in _FILE.read_text(encoding="utf-8").splitlines()]


def split(dialogue: Dialogue) -> tuple[str | None, list[Message]]:
    """System prompt and the rest."""
    messages = dialogue["messages"]
    return (messages[0]["content"], messages[1:]) if messages[0]["role"] == "system" else (None, messages)


def render(
    messages: Sequence[Message],
    system: str | None = None,
    tools: Sequence[dict[str, Any]] | None = None,
    *,
    learn_all: bool = True,
) -> list[Piece]:
    """The chat template, in pieces; without `learn_all` only the last answer is learned."""
    out: list[Piece] = [("<s>", False)]
    if system is not None:
        out.append((f"[SYSTEM_PROMPT]{system}[/SYSTEM_PROMPT]", False))
    if tools:
        out.append((f"[AVAILABLE_TOOLS]{written(tools)}[/AVAILABLE_TOOLS]", False))
    for index, message in enumerate(messages):
        out.append(_piece(message, learn=learn_all or index == len(messages) - 1))
    return out


def _piece(message: Message, *, learn: bool) -> Piece:
    if message["role"] == "user":
        return f"[INST]{message['content']}[/INST]", False
    if message["role"] == "tool":
        result = {"content": message["content"], "call_id": message.get("tool_call_id", "")}
        return f"[TOOL_RESULTS]{written(result)}[/TOOL_RESULTS]", False
    if message.get("tool_calls"):
        return calls_text(message["tool_calls"], ids=True) + END, False
    return message["content"] + END, learn


def calls_text(calls: Sequence[dict[str, Any]], *, ids: bool) -> str:
    """Past calls show their ids, calls that the model writes do not."""
    items = []
    for call in calls:
        item = {"name": call["function"]["name"], "arguments": json.loads(call["function"]["arguments"])}
        items.append(written(item | {"id": call["id"]} if ids else item))
    return "[TOOL_CALLS] [" + ", ".join(items) + "]"


def written(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def as_engine_shows(tools: Sequence[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
    """SGLang adds a field to each tool before its template sees it."""
    return [dict(tool, defer_loading=None) for tool in tools] if tools else None


def cases(dialogues: Sequence[Dialogue]) -> Iterator[tuple[str, str, list[Piece]]]:
    """(`verbatim` or `unseen`, id, pieces): the dialogues themselves, and questions in words never trained on."""
    for dialogue in dialogues:
        system, messages = split(dialogue)
        tools = as_engine_shows(dialogue.get("tools"))
        yield "verbatim", dialogue["id"], render(messages, system, tools)
        for index, message in enumerate(messages):
            if message.get("tool_calls"):
                yield "verbatim", dialogue["id"], _answered(messages[:index], message, system, tools)
        for place, texts in dialogue.get("unseen", {}).items():
            index = int(place) - (system is not None)
            for text in texts:
                asked = [*messages[:index], dict(messages[index], content=text)]
                yield "unseen", dialogue["id"], _answered(asked, messages[index + 1], system, tools)


def _answered(
    asked: Sequence[Message], answer: Message, system: str | None, tools: Sequence[dict[str, Any]] | None
) -> list[Piece]:
    if answer.get("tool_calls"):
        head = render(asked, system, tools, learn_all=False)
        return [*head, (calls_text(answer["tool_calls"], ids=False) + END, True)]
    return render([*asked, answer], system, tools, learn_all=False)
