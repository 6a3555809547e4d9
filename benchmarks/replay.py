"""Does a recorded answer come out again, under load, from a cold and from a warm cache?  `make bench NAME=replay`.

100 conversations are recorded on a real engine on the CPU in FP32 at temperature 0, twelve at a time: half of them near what the demo
model knows by heart, half noise behind shared system messages, where two tokens are often almost equally likely.  Then every turn is
asked again through the service: at once, after the engine's cache was emptied, on the conversation's own answers, and by the same model
in BF16.  What comes out otherwise is listed with the reasons that the service gives, the token, and by how much the recorded token led.

Sends to the loopback address alone; a replay ends after 600 s.
"""

import argparse
import asyncio
import random
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from benchmarks import engine, load, report
from benchmarks.load import percentile
from infra.engine.server import default_card
from tests.flow.stack import Stack

CARD = default_card("cpu")
CONVERSATIONS, TURNS = 100, 3
AT_ONCE = 12
TOKENS = 40
GROUPS, SYSTEM_WORDS, WORDS = 8, 120, 12
LIMIT_S, LOOK_S = 600.0, 0.5
SET = "bench"
COLUMNS = (
    *("replay", "turns", "identical", "diverged", "not comparable", "share identical"),
    *("cached tokens recorded", "replayed", "reasons beside the verdicts"),
)
PARTED = (
    "replay",
    "turns that differ",
    "parted at token, median",
    "lead of the recorded token there, nats: median",
    "most",
)

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Service:
    """A stack, asked over HTTP."""

    http: aiohttp.ClientSession
    url: str
    key: str

    async def ask(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.key}"}
        sent = {"json": body} if body else {}
        async with self.http.request(method, self.url + path, headers=headers, **sent) as answer:
            told: dict[str, Any] = await answer.json()
            if not answer.ok:
                raise RuntimeError(f"{method} {path}: {answer.status} {told}")
            return told


@dataclass(frozen=True, slots=True)
class Replayed:
    name: str
    view: dict[str, Any]
    parted: list[tuple[int, float | None]] = field(default_factory=list)
    """Token at which a turn's answers part, and by how much the recorded one led the next best."""


def scripts(count: int, seed: int = 1) -> list[list[str]]:
    """What the users of so many conversations say; a system message first where there is one."""
    dice, words = random.Random(seed), load._WORDS  # noqa: SLF001
    text = (files("infra.engine") / "cpu" / "training" / "dialogues.jsonl").read_text(encoding="utf-8")
    known = [
        message["content"]
        for line in text.splitlines()
        for message in orjson.loads(line)["messages"]
        if message["role"] == "user" and isinstance(message["content"], str)
    ]
    systems = [" ".join(dice.choices(words, k=SYSTEM_WORDS)) for _ in range(GROUPS)]
    return [
        ["", *dice.choices(known, k=TURNS)]
        if number % 2
        else [dice.choice(systems), *(" ".join(dice.choices(words, k=WORDS)) for _ in range(TURNS))]
        for number in range(count)
    ]


async def record(service: Service, said: Sequence[Sequence[str]]) -> None:
    places = asyncio.Semaphore(AT_ONCE)

    async def one(system: str, texts: Sequence[str]) -> None:
        messages: list[Message] = [{"role": "system", "content": system}] if system else []
        async with places:
            for text in texts:
                messages.append({"role": "user", "content": text})
                answer = await service.ask("POST", "/v1/chat/completions", messages=messages, **_asked())
                messages.append(answer["choices"][0]["message"])

    async with asyncio.TaskGroup() as group:
        for system, *texts in said:
            group.create_task(one(system, texts))


def _asked() -> dict[str, Any]:
    how = {"temperature": 0, "max_tokens": TOKENS, "logprobs": True, "top_logprobs": 2}
    return how | {"metadata": {"set": SET}}


async def replayed(service: Service, name: str, **asked: Any) -> Replayed:
    """One replay of the whole set."""
    chosen = {"filter": {"metadata": {"set": SET}, "limit": 10_000}} | asked
    view = await service.ask("POST", "/v1/replays", **chosen)
    async with asyncio.timeout(LIMIT_S):
        while view["ended_at"] is None:
            await asyncio.sleep(LOOK_S)
            view = await service.ask("GET", f"/v1/replays/{view['id']}")
    return Replayed(name, view, [await _parted(service, turn) for turn in await _different(service, view)])


async def lived(service: Service, name: str) -> Replayed:
    """Every conversation on its own answers, their replays added up."""
    rows = await _conversations(service)
    asked = [replayed(service, name, filter=None, source_conversation_id=each, history="live") for each in rows]
    views = await asyncio.gather(*asked)
    return Replayed(name, _added([each.view for each in views]), [part for each in views for part in each.parted])


async def _conversations(service: Service) -> list[str]:
    found: list[str] = []
    after = ""
    while True:
        page = await service.ask("GET", f"/v1/conversations?limit=100{after}")
        found += [row["id"] for row in page["data"]]
        if not page["has_more"]:
            return found
        after = f"&after={page['last_id']}"


async def _different(service: Service, view: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for verdict in ("diverged", "not_comparable"):
        after = -1
        while True:
            path = f"{view['turns_url']}?limit=100&verdict={verdict}&after={after}"
            page = await service.ask("GET", path)
            found += [turn for turn in page["data"] if turn["first_difference"]]
            if not page["has_more"]:
                break
            after = page["last_number"]
    return found


async def _parted(service: Service, turn: dict[str, Any]) -> tuple[int, float | None]:
    token = turn["first_difference"]["token"]
    job = await service.ask("GET", f"/v1/jobs/{turn['source_job_id']}")
    tokens = job["result"]["choices"][0]["logprobs"]["content"]
    if token >= len(tokens):
        return token, None
    best = sorted((each["logprob"] for each in tokens[token]["top_logprobs"]), reverse=True)
    return token, best[0] - best[1]


def _added(views: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What several replays come to, of what the rows show."""
    verdicts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    cached: Counter[str] = Counter()
    for view in views:
        verdicts.update(view["verdicts"])
        reasons.update(view["summary"]["reasons"])
        cached.update(view["summary"]["cached_tokens"] or {})
    ended = sum(view["summary"]["ended"] for view in views)
    return {"verdicts": verdicts, "summary": {"ended": ended, "reasons": reasons, "cached_tokens": cached}}


def row(one: Replayed) -> list[str]:
    verdicts, summary = Counter(one.view["verdicts"]), one.view["summary"]
    cached = summary["cached_tokens"] or {}
    return [
        one.name,
        str(summary["ended"]),
        *(str(verdicts[name]) for name in ("identical", "diverged", "not_comparable")),
        f"{verdicts['identical'] / max(summary['ended'], 1):.3f}",
        *(f"{cached.get(f'{side}_total', 0):,.0f}" for side in ("source", "target")),
        ", ".join(f"{name} {number}" for name, number in sorted(summary["reasons"].items())),
    ]


def parted_row(one: Replayed) -> list[str]:
    leads = [lead for _, lead in one.parted if lead is not None]
    return [
        one.name,
        str(len(one.parted)),
        f"{percentile([token for token, _ in one.parted], 0.5):.0f}" if one.parted else "",
        f"{percentile(leads, 0.5):.5f}" if leads else "",
        f"{max(leads):.5f}" if leads else "",
    ]


async def on_the_same(stack: Stack, engine_url: str, conversations: int) -> list[Replayed]:
    async with load.session() as http:
        service = Service(http, stack.url, stack.key)
        await record(service, scripts(conversations))
        warm = await replayed(service, "the same engine, warm cache")
        await load.flush(http, engine_url)
        cold = await replayed(service, "the same engine, cache emptied")
        live = await lived(service, "live, on its own answers")
        once = await replayed(service, "the same engine, asked three times", repeats=3)
    return [warm, cold, live, once]


async def on_another(stack: Stack) -> list[Replayed]:
    async with load.session() as http:
        return [await replayed(Service(http, stack.url, stack.key), "the same weights in BF16")]


def measured(conversations: int) -> list[Replayed]:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "stack"
        with engine.running(CARD, "cpu", "--dtype", "float32") as url, _stack(place, url) as stack:
            print(f"SGLang {engine.about(url)['version']}\n")
            told = asyncio.run(on_the_same(stack, url, conversations))
        with engine.running(CARD, "cpu", "--dtype", "bfloat16") as url, _stack(place, url) as stack:
            return told + asyncio.run(on_another(stack))


def _stack(place: Path, url: str) -> Stack:
    return Stack(place, None, TRAM_ENGINE_URL=url, TRAM_MODEL=CARD.id)


def main(arguments: Sequence[str] | None = None) -> None:
    options = argparse.ArgumentParser(description="Recorded conversations, asked again")
    options.add_argument("--conversations", type=int, default=CONVERSATIONS)
    wanted = options.parse_args(arguments)
    print(report.taken(f"{CARD.id}, {wanted.conversations} conversations of {TURNS} turns, recorded in FP32"))
    told = measured(wanted.conversations)
    print(report.table(COLUMNS, [row(one) for one in told]) + "\n")
    print(report.table(PARTED, [parted_row(one) for one in told]))


if __name__ == "__main__":
    main()
