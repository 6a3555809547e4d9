"""How is a raw prompt asked, and how does what comes back become a chat's chunks?

A prompt to which no chat template is applied goes to the engine's `/v1/completions`.  Its chunks are turned into those of a chat at the
wall, so that nothing behind it (relay, result, transcript, webhook) knows two kinds.  Relies on SGLang 0.5.23's form: text and log
probabilities a choice, token bytes lost on the way.
"""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

_NOT_THERE = frozenset({"raw", "input_ids", "max_completion_tokens", "logprobs", "top_logprobs"})


def asked(parameters: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The body for `/v1/completions`; token ids to go on from stand in the prompt's place."""
    kept = {name: value for name, value in parameters.items() if name not in _NOT_THERE}
    prompt = parameters.get("input_ids") or messages[0]["content"]
    if (limit := parameters.get("max_completion_tokens")) is not None:
        kept["max_tokens"] = limit
    if parameters.get("logprobs"):
        top = parameters.get("top_logprobs") or 0
        kept["logprobs"] = max(1, top) if parameters.get("echo") else top  # asked for none, it leaves the prompt's out
    return kept | {"prompt": prompt}


class ChatChunks:
    """The chunks of one completion, as a chat's would be."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._top = parameters.get("top_logprobs") or 0
        self._begun: set[int] = set()

    def of(self, chunk: dict[str, Any]) -> dict[str, Any]:
        return chunk | {"choices": [self._choice(choice) for choice in chunk.get("choices") or ()]}

    def _choice(self, choice: Mapping[str, Any]) -> dict[str, Any]:
        index = choice["index"]
        speaker = {} if index in self._begun else {"role": "assistant"}
        self._begun.add(index)
        logprobs = choice.get("logprobs")
        return {
            "index": index,
            "delta": speaker | ({"content": choice["text"]} if choice.get("text") else {}),
            "logprobs": logprobs and {"content": self._tokens(logprobs)},
            "finish_reason": choice.get("finish_reason"),
        }

    def _tokens(self, logprobs: Mapping[str, Any]) -> list[dict[str, Any]]:
        rows = zip_longest(logprobs["tokens"], logprobs["token_logprobs"], logprobs.get("top_logprobs") or ())
        return [_token(token, logprob, list((top or {}).items())[: self._top]) for token, logprob, top in rows]


def _token(token: str, logprob: float | None, top: Sequence[tuple[str, float]]) -> dict[str, Any]:
    others = [{"token": other, "logprob": value, "bytes": None} for other, value in top]
    return {"token": token, "logprob": logprob, "bytes": None, "top_logprobs": others}
