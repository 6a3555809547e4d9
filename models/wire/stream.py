"""How do an engine's chunks become ours, and chunks become an answer?

The engine's chunk is parsed once; its `choices` are cleaned of what OpenAI does not send and framed between two byte strings
that are made once a job.  `Answer` adds the same choices up.  Both are on the path of every token: no models, no copies.
"""

from typing import Any

import orjson

from models import ids
from models.placement import Tier
from models.transcripts import Spoken

DONE = b"data: [DONE]\n\n"
RESTART = b'{"object":"tram.restart"}'
"""In place of a chunk: a worker was lost, its answer could not be continued, and what follows begins anew."""


class Frame:
    """The bytes around the choices of one job's chunks."""

    def __init__(
        self,
        *,
        job_id: str,
        model: str,
        created_s: int,
        include_usage: bool,
        tier: Tier = Tier.DEFAULT,
        fingerprint: str | None = None,
    ) -> None:
        head = {
            "id": ids.completion_of(job_id),
            "object": "chat.completion.chunk",
            "created": created_s,
            "model": model,
            "service_tier": tier,
            "system_fingerprint": fingerprint,
        }
        self._head = orjson.dumps(head)[:-1] + b',"choices":'
        self._tail = b',"usage":null}' if include_usage else b"}"

    def chunk(self, choices: bytes) -> bytes:
        """`choices` is JSON; the chunk is compact JSON without a newline."""
        if choices == b"null":
            return RESTART
        return self._head + choices + self._tail

    def usage(self, usage: dict[str, Any]) -> bytes:
        return self._head + b'[],"usage":' + orjson.dumps(usage) + b"}"


def clean(choices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What OpenAI's chunks have, and no nulls inside a delta (an absent field means the same, and costs nothing)."""
    return [
        {
            "index": choice["index"],
            "delta": {key: _clean_calls(value) for key, value in choice["delta"].items() if value is not None},
            "logprobs": choice.get("logprobs"),
            "finish_reason": choice.get("finish_reason"),
        }
        for choice in choices
    ]


def _clean_calls(value: Any) -> Any:
    """Tool-call fragments after the first carry null ids and names in SGLang."""
    if not isinstance(value, list):
        return value
    return [
        {
            key: {name: text for name, text in part.items() if text is not None} if key == "function" else part
            for key, part in call.items()
            if part is not None
        }
        for call in value
    ]


class Answer:
    """The choices of one job, added up from their deltas."""

    def __init__(self) -> None:
        self._choices: dict[int, _Choice] = {}

    def add(self, choices: list[dict[str, Any]]) -> None:
        for choice in choices:
            index = choice["index"]
            mine = self._choices.get(index)
            if mine is None:
                mine = self._choices[index] = _Choice()
            mine.add(choice)

    def finish_reasons(self) -> list[str | None]:
        return [choice.finish_reason for choice in self._choices.values()]

    def choices(self) -> list[dict[str, Any]]:
        """As a whole completion carries them."""
        return [
            {
                "index": index,
                "message": choice.message(),
                "logprobs": choice.logprobs(),
                "finish_reason": choice.finish_reason,
            }
            for index, choice in sorted(self._choices.items())
        ]

    def spoken(self) -> list[Spoken]:
        """As the next turn would send them back; a choice that said nothing leaves nothing to continue."""
        return [
            Spoken(choice.message(), choice.finish_reason or "cut_off")
            for _, choice in sorted(self._choices.items())
            if choice.text or choice.calls
        ]

    def text(self) -> str:
        """What the first choice has said so far."""
        return "".join(self._choices[0].text) if 0 in self._choices else ""


class _Choice:
    __slots__ = ("calls", "finish_reason", "text", "tokens")

    def __init__(self) -> None:
        self.text: list[str] = []
        self.calls: dict[int, dict[str, Any]] = {}
        self.tokens: list[dict[str, Any]] = []
        self.finish_reason: str | None = None

    def add(self, choice: dict[str, Any]) -> None:
        delta = choice["delta"]
        if content := delta.get("content"):
            self.text.append(content)
        for fragment in delta.get("tool_calls") or ():
            self._add_call(fragment)
        if logprobs := choice.get("logprobs"):
            self.tokens.extend(logprobs.get("content") or ())
        self.finish_reason = choice.get("finish_reason") or self.finish_reason

    def message(self) -> dict[str, Any]:
        text = "".join(self.text)
        if not self.calls:
            return {"role": "assistant", "content": text}
        return {
            "role": "assistant",
            "content": text or None,
            "tool_calls": [call for _, call in sorted(self.calls.items())],
        }

    def logprobs(self) -> dict[str, Any] | None:
        return {"content": self.tokens} if self.tokens else None

    def _add_call(self, fragment: dict[str, Any]) -> None:
        function = fragment.get("function") or {}
        call = self.calls.setdefault(
            fragment.get("index", 0),
            {"id": fragment.get("id"), "type": "function", "function": {"name": function.get("name"), "arguments": ""}},
        )
        call["function"]["arguments"] += function.get("arguments") or ""


def completion(
    job_id: str,
    model: str,
    created_s: int,
    choices: list[dict[str, Any]],
    usage: dict[str, Any],
    tier: Tier = Tier.DEFAULT,
    fingerprint: str | None = None,
) -> dict[str, Any]:
    return {
        "id": ids.completion_of(job_id),
        "object": "chat.completion",
        "created": created_s,
        "model": model,
        "choices": choices,
        "usage": usage,
        "service_tier": tier,
        "system_fingerprint": fingerprint,
    }


def usage_of(prompt: int, completion_tokens: int, cached: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
