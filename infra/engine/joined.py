"""What is an engine that is already running, and what does it serve?  It is asked over HTTP.

`card_of` makes a card for any OpenAI-compatible server whose model is in no catalogue.  What such a server does not tell (its
context, where it keeps silent) is assumed, and said so in the card.  `software` tells what it runs and how, where it is SGLang.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp

from models.cards.card import ID_CHARACTERS, Capability, Card, EngineFlags, Flag, Prices, Sampling
from models.errors import Unavailable

ASSUMED_CONTEXT_TOKENS = 32_768
CONCURRENCY = 256
"""The engine holds its own queue; this only bounds what one worker passes on at once."""
_OF_ALL: tuple[Capability, ...] = ("streaming", "tools")
_OF_SGLANG: tuple[Capability, ...] = ("regex", "continue_final_message", "prefix_cache")
"""What others would leave out without a word."""
_ASK_S = 5.0
_FAULTS = (aiohttp.ClientError, TimeoutError, OSError, ValueError)
_TELLING = (
    *("dtype", "quantization", "kv_cache_dtype", "load_format", "weight_version", "speculative_algorithm"),
    *(
        "attention_backend",
        "prefill_attention_backend",
        "decode_attention_backend",
        "sampling_backend",
        "grammar_backend",
    ),
    *("tp_size", "pp_size", "dp_size", "ep_size", "page_size", "chunked_prefill_size", "max_running_requests"),
    *("disable_radix_cache", "enable_mixed_chunk", "enable_torch_compile", "enable_deterministic_inference"),
)
"""Of five hundred settings those that an answer may depend on: how numbers are held and summed, and what is computed together."""


@dataclass(frozen=True, slots=True)
class Software:
    name: str = "unknown"
    version: str = ""
    device: str | None = None
    flags: Mapping[str, Flag | None] = field(default_factory=dict)
    """What it runs with, by the names of its flags; empty where it does not tell."""


async def card_of(url: str, model: str = "") -> Card:
    """`model` picks one of the engine's ids; empty takes its first.  Raises Unavailable."""
    listed = await _listed(url)
    ids = [entry["id"] for entry in listed]
    if model and model not in ids:
        raise Unavailable(f"the engine at {url} does not serve {model!r}; it lists {', '.join(ids) or 'nothing'}")
    if not ids:
        raise Unavailable(f"the engine at {url} lists no models")
    chosen = next(entry for entry in listed if entry["id"] == (model or ids[0]))
    context = int(chosen.get("max_model_len") or ASSUMED_CONTEXT_TOKENS)
    return Card(
        id=_slug(chosen["id"]),
        aliases=tuple(dict.fromkeys(name for name in (chosen["id"], *ids) if name != _slug(chosen["id"]))),
        owned_by=str(chosen.get("owned_by") or "unknown"),
        description=f"Served by an engine that was joined at start, under the name {chosen['id']}.",
        weights=chosen["id"],
        context_tokens=context,
        max_output_tokens=context,
        modalities=("text",),
        capabilities=_OF_ALL + (_OF_SGLANG if (await software(url) or Software()).name == "sglang" else ()),
        prices=Prices.model_validate({"prompt": 0, "completion": 0}),
        launched=datetime.now(UTC).date(),
        concurrency=CONCURRENCY,
        sampling=Sampling(temperature=1.0, top_p=1.0),
        tool_calls="unknown",
        flags=EngineFlags(),
    )


async def software(url: str) -> Software | None:
    """What runs there, as far as it tells; None when it does not answer."""
    try:
        told = await _asked(url, "/server_info")
    except aiohttp.ClientResponseError:
        return Software()
    except _FAULTS:
        return None
    if not isinstance(told, dict) or not isinstance(told.get("version"), str):
        return Software()
    flags = {name.replace("_", "-"): told[name] for name in _TELLING if isinstance(told.get(name), Flag | None)}
    return Software("sglang", told["version"], told.get("device"), flags)


async def _listed(url: str) -> list[dict[str, Any]]:
    try:
        body = await _asked(url, "/v1/models")
    except _FAULTS as error:
        raise Unavailable(f"the engine at {url} does not list its models: {error}") from error
    return [entry for entry in body.get("data", []) if isinstance(entry, dict) and isinstance(entry.get("id"), str)]


async def _asked(url: str, path: str) -> Any:
    timeout = aiohttp.ClientTimeout(total=_ASK_S)
    address = url.rstrip("/").removesuffix("/v1") + path
    async with aiohttp.ClientSession(timeout=timeout) as http, http.get(address) as answer:
        answer.raise_for_status()
        return await answer.json(content_type=None)


def _slug(name: str) -> str:
    """Of a path, which some engines list, its end: the database's column has no room for more."""
    return re.sub(r"[^a-z0-9.-]+", "-", name.lower())[-ID_CHARACTERS:].strip("-.") or "joined"
