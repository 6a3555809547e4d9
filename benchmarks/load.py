"""What does a client see of an OpenAI-compatible chat server under load?  Shared-prefix prompts, streams, and what they tell.

A prompt is one of a few long system messages and a user message of its own, drawn from a seed: the same load can be sent to several
servers.  Counts are the server's (`usage`), times the client's clock.  Sends to the address it is given and nowhere else; every load
ends by its limit, and what was cut off or failed is counted, never left out.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Self

import aiohttp
import orjson

_WORDS = (
    *("value", "state", "queue", "event", "order", "stream", "token", "cache", "batch", "worker", "result", "error"),
    *("index", "table", "field", "object", "string", "number", "request", "reply", "header", "body", "time", "clock"),
)
_CALIBRATION = (50, 250)
_DATA, _DONE = b"data: ", b"[DONE]"
_CHARACTERS = 300
_FLUSHES, _FLUSH_PAUSE_S = 50, 0.1

Message = dict[str, str]


class Failed(Exception):
    """The server answered, but not with an answer."""


@dataclass(frozen=True, slots=True)
class Server:
    url: str
    model: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    ttft_s: float
    first_s: float
    """The clock's at the first piece of text."""
    gaps_s: tuple[float, ...]
    """Between one piece of text and the next."""
    completion_tokens: int
    prompt_tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class Prompts:
    groups: int
    """How many system messages there are to share."""
    system_tokens: int
    user_tokens: int
    words_per_token: float = 1.0
    """Of the model's tokenizer; `calibrated` measures it."""

    def drawn(self, count: int, seed: str) -> list[list[Message]]:
        """So many prompts in an order that shares nothing with the groups'."""
        return [self._prompt(random.Random(f"{seed} {number}")) for number in range(count)]

    def _prompt(self, dice: random.Random) -> list[Message]:
        group = random.Random(f"group {dice.randrange(self.groups)}")
        system, user = self._text(group, self.system_tokens), self._text(dice, self.user_tokens)
        return [{"role": "system", "content": system}, {"role": "user", "content": user}]

    def _text(self, dice: random.Random, tokens: int) -> str:
        return _words(dice, max(1, round(tokens * self.words_per_token)))


@dataclass
class Tally:
    """What a load has come to."""

    answers: list[Answer] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    firsts_s: list[float] = field(default_factory=list)
    """From the load's start to each first token."""
    seconds: float = 0.0

    def __iadd__(self, other: Self) -> Self:
        self.answers += other.answers
        self.failures += other.failures
        self.firsts_s += other.firsts_s
        self.seconds += other.seconds
        return self

    def ttft_ms(self, share: float) -> float:
        return 1000 * percentile([answer.ttft_s for answer in self.answers], share)

    def first_ms(self, share: float) -> float:
        """To the first token from the load's start, so that being held back counts."""
        return 1000 * percentile(self.firsts_s, share)

    def gap_ms(self, share: float) -> float:
        return 1000 * percentile([gap for answer in self.answers for gap in answer.gaps_s], share)

    @property
    def prompt_tokens(self) -> int:
        return sum(answer.prompt_tokens for answer in self.answers)

    @property
    def cached_tokens(self) -> int:
        return sum(answer.cached_tokens for answer in self.answers)

    @property
    def cached_share(self) -> float:
        return self.cached_tokens / max(1, self.prompt_tokens)

    @property
    def tokens_per_s(self) -> float:
        return sum(answer.completion_tokens for answer in self.answers) / max(self.seconds, 1e-9)


@asynccontextmanager
async def session(key: str = "") -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=None, sock_connect=10)
    async with aiohttp.ClientSession(headers=headers, connector=connector, timeout=timeout, trust_env=False) as http:
        yield http


async def ask(http: aiohttp.ClientSession, server: Server, messages: Sequence[Message], **parameters: Any) -> Answer:
    """One streamed chat.  Raises `Failed`, or what aiohttp raises."""
    body = {"model": server.model, "messages": messages, "stream": True, "stream_options": {"include_usage": True}}
    headers = {"Authorization": f"Bearer {server.key}"} if server.key else {}
    sent_s, heard_s, usage = time.monotonic(), [], None
    async with http.post(f"{server.url}/v1/chat/completions", json=body | parameters, headers=headers) as answer:
        if not answer.ok:
            raise Failed(f"HTTP {answer.status}: {(await answer.text())[:_CHARACTERS]}")
        async for line in answer.content:
            if not line.startswith(_DATA) or line[len(_DATA) :].strip() == _DONE:
                continue
            chunk = orjson.loads(line[len(_DATA) :])
            if _spoke(chunk):
                heard_s.append(time.monotonic())
            usage = chunk.get("usage") or usage
    return _answer(sent_s, heard_s, usage)


def _spoke(chunk: dict[str, Any]) -> bool:
    if "error" in chunk:
        raise Failed(str(chunk["error"])[:_CHARACTERS])
    return any(choice["delta"].get("content") for choice in chunk["choices"])


def _answer(sent_s: float, heard_s: list[float], usage: dict[str, Any] | None) -> Answer:
    if not heard_s or usage is None:
        raise Failed("the stream ended without a token or without usage")
    gaps_s = tuple(after - before for before, after in pairwise(heard_s))
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return Answer(heard_s[0] - sent_s, heard_s[0], gaps_s, usage["completion_tokens"], usage["prompt_tokens"], cached)


async def calibrated(http: aiohttp.ClientSession, server: Server, prompts: Prompts) -> Prompts:
    """With the model's words per token; also a warm-up."""
    few, many = [
        await ask(http, server, [{"role": "user", "content": _words(random.Random(words), words)}], max_tokens=2)
        for words in _CALIBRATION
    ]
    rate = (_CALIBRATION[1] - _CALIBRATION[0]) / (many.prompt_tokens - few.prompt_tokens)
    return replace(prompts, words_per_token=rate)


async def keep_open(
    http: aiohttp.ClientSession,
    server: Server,
    chats: Sequence[list[Message]],
    streams: int,
    limit_s: float,
    **body: Any,
) -> Tally:
    """So many streams at a time until all chats are had: each takes the next one when its last has ended."""
    tally, left = Tally(), iter(chats)
    began_s = time.monotonic()
    tasks = [asyncio.create_task(_one_after_the_other(http, server, left, tally, body)) for _ in range(streams)]
    _, late = await asyncio.wait(tasks, timeout=limit_s)
    tally.seconds = time.monotonic() - began_s
    tally.firsts_s = [answer.first_s - began_s for answer in tally.answers]
    for task in late:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=bool(late))
    if late:
        tally.failures[f"not done within {limit_s:g} s"] += len(late) + sum(1 for _ in left)
    return tally


async def _one_after_the_other(
    http: aiohttp.ClientSession, server: Server, left: Iterator[list[Message]], tally: Tally, body: dict[str, Any]
) -> None:
    for messages in left:
        try:
            tally.answers.append(await ask(http, server, messages, **body))
        except (Failed, aiohttp.ClientError, OSError) as error:
            tally.failures[f"{type(error).__name__}: {error}"[:_CHARACTERS]] += 1


async def flush(http: aiohttp.ClientSession, engine_url: str) -> None:
    """Empties SGLang's prefix cache, which it refuses while anything runs."""
    for _ in range(_FLUSHES):
        async with http.post(f"{engine_url}/flush_cache") as answer:
            if answer.ok:
                return
        await asyncio.sleep(_FLUSH_PAUSE_S)
    raise Failed("the engine does not flush its cache: something runs there")


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


def _words(dice: random.Random, count: int) -> str:
    return " ".join(dice.choices(_WORDS, k=count))
