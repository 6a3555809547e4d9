"""Is every body either refused in words or passed on whole?  Ten thousand of them, bent and broken by a seeded dice.

TRAM_TEST_SEED throws the dice anew; a failure says which seed and which body it was.
"""

import asyncio
import io
import json
import os
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from models.wire.chat import JobRequest
from tests.flow import fuzz
from tests.flow.engine import Engine
from tests.flow.stack import Stack

SEED = int(os.environ.get("TRAM_TEST_SEED", "20261120"))
BATCH = 500
"""The engine remembers the last thousand."""
AT_ONCE = 16
TYPES = ("application/json", "application/json; charset=utf-8", "text/plain", "application/x-www-form-urlencoded", "x")
ENVELOPE = {"message", "type", "param", "code"}

STAYS = frozenset(
    {"model", "stream", "stream_options", "service_tier", "store", "metadata", "user", "safety_identifier"}
    | {"prompt_cache_key", "modalities", "conversation_id", "background", "webhook_url", "deadline"}
)
"""What is ours to honour, and nothing of the engine's."""
RENAMED = {"max_tokens": "max_completion_tokens", "guided_json": "response_format"}
ADDED = frozenset({"model", "messages", "rid", "stream", "stream_options", "cache_salt", "temperature", "top_p"})
"""What the engine is told besides."""


@dataclass(frozen=True)
class Told:
    number: int
    sent: bytes
    status: int
    job_id: str | None
    answer: bytes


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("column", "count"), [("embedded", 10_000), ("production", 500)])
async def test_a_body_is_refused_in_words_or_reaches_the_engine_whole(request, column: str, count: int):
    stack: Stack = request.getfixturevalue(column)
    dice = random.Random(SEED)
    statuses: Counter[int] = Counter()
    for first in range(0, count, BATCH):
        bodies = [fuzz.body(dice) for _ in range(min(BATCH, count - first))]
        told = await _ask_all(stack, first, bodies)
        reached = await asyncio.to_thread(_reached, stack.engine)
        for each in told:
            wrong = _wrong(each, reached)
            assert not wrong, f"seed {SEED}, body {each.number}: {wrong}\n{each.sent[:3000]!r}\n{each.answer[:1000]!r}"
        statuses.update(each.status for each in told)
    assert statuses[200] > count / 5, f"too few were good enough to be passed on: {statuses}"
    assert statuses[400] > count / 5, f"too few were bad enough to be refused: {statuses}"


def test_each_field_has_its_fate():
    assert JobRequest.model_fields.keys() >= STAYS
    assert RENAMED.keys() <= JobRequest.model_fields.keys() - STAYS


async def _ask_all(stack: Stack, first: int, bodies: list[bytes]) -> list[Told]:
    gate = asyncio.Semaphore(AT_ONCE)
    headers = {"Authorization": f"Bearer {stack.key}"}
    async with aiohttp.ClientSession(stack.url, headers=headers) as session:
        asking = (_ask(session, gate, number, body) for number, body in enumerate(bodies, first))
        return await asyncio.gather(*asking)


async def _ask(session: aiohttp.ClientSession, gate: asyncio.Semaphore, number: int, body: bytes) -> Told:
    kind = {"content-type": TYPES[number % len(TYPES)]}
    async with gate, session.post("/v1/chat/completions", data=io.BytesIO(body), headers=kind) as answer:
        return Told(number, body, answer.status, answer.headers.get("x-tram-job"), await answer.read())


def _reached(engine: Engine) -> dict[str, dict[str, Any]]:
    """What the engine was asked, by the job."""
    return {asked["rid"].rpartition("-")[0]: asked for asked in engine.requests() if "rid" in asked}


def _wrong(told: Told, reached: Mapping[str, dict[str, Any]]) -> str:
    if told.status == 200:
        assert told.job_id is not None
        return _lost(json.loads(told.sent), reached[told.job_id])
    if not 400 <= told.status < 500:
        return f"status {told.status}"
    error = json.loads(told.answer)["error"]
    if set(error) != ENVELOPE or not error["message"]:
        return "an error that is not whole"
    if not error["param"]:
        return "nothing is named"
    if fuzz.HALF_ESCAPED in told.sent and error["code"] == "invalid_json" and _is_json(told.sent):
        return "half a surrogate pair is refused as if it were no JSON"
    return ""


def _is_json(sent: bytes) -> bool:
    """But for half a surrogate pair, which Python's reader lets through."""
    try:
        return isinstance(json.loads(sent, parse_constant=_no_number), dict)
    except (ValueError, RecursionError):
        return False


def _no_number(word: str) -> None:
    raise ValueError(word)


def _lost(sent: dict[str, Any], got: dict[str, Any]) -> str:
    """What is not the same on the far side."""
    wanted = {RENAMED.get(name, name): value for name, value in _for_the_engine(sent).items()}
    if got.get("response_format", {}).get("type") == "structural_tag":
        if lost := _not_in_the_grammar(wanted, json.dumps(got["response_format"])):
            return lost
        wanted |= {"response_format": got["response_format"]}
        wanted |= {"tool_choice": "auto"} if wanted.get("tool_choice") else {}
    for name, value in wanted.items():
        if json.dumps(got.get(name)) != json.dumps(value):
            return f"{name} was {value!r:.300} and became {got.get(name)!r:.300}"
    more = got.keys() - wanted.keys() - ADDED
    return f"nobody asked for {more}" if more else ""


def _not_in_the_grammar(wanted: dict[str, Any], grammar: str) -> str:
    """Where tools are offered, JSON, strict arguments and calls that must be made are one grammar: what bound them stands in it."""
    if not wanted.get("tools"):
        return "a grammar of calls, and no tools"
    functions = [tool["function"] for tool in wanted["tools"]]
    bound = [function["parameters"] for function in functions if function.get("strict") and function.get("parameters")]
    if wanted.get("tool_choice") in (None, "auto"):
        bound += [schema] if (schema := wanted.get("response_format", {}).get("json_schema", {}).get("schema")) else []
    missing = [schema for schema in bound if json.dumps(schema) not in grammar]
    return f"{missing[0]!r:.300} does not bind the answer" if missing else ""


def _for_the_engine(sent: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in sent.items() if name not in STAYS and value is not None}
    if "max_completion_tokens" in kept:
        kept.pop("max_tokens", None)
    if "guided_json" in kept:
        kept["guided_json"] = {
            "type": "json_schema",
            "json_schema": {"name": "guided_json", "schema": kept["guided_json"]},
        }
    if isinstance(kept.get("tool_choice"), dict):
        name = kept["tool_choice"]["function"]["name"]
        kept["tools"] = [tool for tool in kept["tools"] if tool["function"]["name"] == name]
    kept["messages"] = [
        message | {"role": "system"} if message["role"] == "developer" else message for message in kept["messages"]
    ]
    return kept
