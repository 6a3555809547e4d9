"""What does longest-prefix-first buy over first-come-first-served, and what does a long queue cost it?  `make bench NAME=prefixes`.

Two real engines on the CPU with the demo model, one a policy, take turns with the same load in one run: more prefixes than the cache
holds, more chats than run at once, all there at the start.  Sent as our worker sends them (as many as run and 32 more, the rest held
back), and all at once, which is where SGLang's `lpm` turns into `fcfs`: above 128 waiting.

Time to first token counts from the start, so it holds the time that a chat was held back.  Sends to the loopback address alone; a
load ends after 240 s.
"""

import argparse
import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aiohttp

from benchmarks import engine, load, report
from benchmarks.load import Prompts, Server, Tally
from infra.engine.server import default_card

CARD = default_card("cpu")
RUNNING, WAITING = 16, 32
"""What runs at once, and what our workers let wait in the engine beside it."""
CHATS = 400
PROMPTS = Prompts(groups=32, system_tokens=500, user_tokens=30)
CACHE_TOKENS = 12_288
"""Of the 16,000 that all prefixes need; 16 running chats of different groups need 9,000."""
OUTPUT_TOKENS = 8
LIMIT_S = 240.0
FLAGS = ("--max-total-tokens", str(CACHE_TOKENS), "--max-running-requests", str(RUNNING))
COLUMNS = (
    *("policy", "sent", "chats", "cached share", "prompt tokens computed", "chats/s", "TTFT p50 s", "p95", "failed"),
    "chats/s of fcfs",
)


@dataclass(frozen=True, slots=True)
class Arm:
    policy: str
    at_once: int
    """Chats in the engine at the same time, at most."""

    @property
    def sent(self) -> str:
        return "all at once" if self.at_once == CHATS else f"{self.at_once} at a time"


ARMS = tuple(Arm(policy, at_once) for at_once in (RUNNING + WAITING, CHATS) for policy in ("fcfs", "lpm"))


async def measured(engines: Mapping[str, str], arms: Sequence[Arm], chats: int, rounds: int) -> dict[Arm, Tally]:
    """By arm; `engines` names each policy's root."""
    tallies = {arm: Tally() for arm in arms}
    async with load.session() as http:
        for url in engines.values():  # each is warmed up by it; they have one tokenizer
            prompts = await load.calibrated(http, Server(url, CARD.id), PROMPTS)
        for number in range(rounds):
            drawn = prompts.drawn(chats, f"round {number}")
            for arm in arms[:: 1 if number % 2 == 0 else -1]:  # nobody always comes after the same neighbour
                tallies[arm] += await _one(http, engines[arm.policy], drawn, arm)
    return tallies


async def _one(http: aiohttp.ClientSession, url: str, drawn: Sequence[list[load.Message]], arm: Arm) -> Tally:
    await load.flush(http, url)
    server, body = Server(url, CARD.id), {"max_tokens": OUTPUT_TOKENS, "temperature": 0, "ignore_eos": True}
    return await load.keep_open(http, server, drawn, arm.at_once, LIMIT_S, **body)


def row(arm: Arm, tallies: Mapping[Arm, Tally]) -> list[str]:
    tally, rate = tallies[arm], {one: len(each.answers) / each.seconds for one, each in tallies.items()}
    return [
        arm.policy,
        arm.sent,
        str(len(tally.answers)),
        f"{tally.cached_share:.3f}",
        f"{tally.prompt_tokens - tally.cached_tokens:,}",
        f"{rate[arm]:.1f}",
        *(f"{tally.first_ms(share) / 1000:.1f}" for share in (0.5, 0.95)),
        str(tally.failures.total()),
        f"{rate[arm] / rate[Arm('fcfs', arm.at_once)]:.2f}",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    options = argparse.ArgumentParser(description="Longest prefix first against first come first served")
    options.add_argument("--rounds", type=int, default=3)
    wanted = options.parse_args(arguments)
    print(report.taken(f"{CARD.id}, {CHATS} chats of {PROMPTS.groups} prefixes a round, {wanted.rounds} rounds"))
    with (
        engine.running(CARD, "cpu", *FLAGS, "--schedule-policy", "fcfs") as fcfs,
        engine.running(CARD, "cpu", *FLAGS, "--schedule-policy", "lpm") as lpm,
    ):
        print(f"SGLang {engine.about(lpm)['version']}, a cache of {CACHE_TOKENS:,} tokens, {RUNNING} running\n")
        tallies = asyncio.run(measured({"fcfs": fcfs, "lpm": lpm}, ARMS, CHATS, wanted.rounds))
    print(report.table(COLUMNS, [row(arm, tallies) for arm in ARMS]))


if __name__ == "__main__":
    main()
