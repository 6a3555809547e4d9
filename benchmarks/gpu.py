"""How fast is the 24B on this GPU, spoken to directly and through the service?  `make bench NAME=gpu`.

The true shape in AWQ with random weights (`benchmarks.shape`), launched with its card's flags; nothing is downloaded.  Prompts share
8 system messages.  Direct and through take turns in one run, each time with an empty cache.  On a machine without a GPU a small shape
goes the same road on the CPU: that shows that the program runs, and its figures mean nothing.

`--url` names an SGLang that runs already and is left running.  Sends to the loopback address alone; a row ends after 120 s.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import aiohttp

from benchmarks import bounds, engine, load, report, shape
from benchmarks.load import Prompts, Server, Tally
from infra.engine.gpu import Installed, installed
from infra.engine.server import DEFAULT_CARDS, device
from models.cards.card import Device, catalogue
from tests.flow.stack import Stack

CARD = catalogue()[DEFAULT_CARDS["cuda"]]
LIMIT_S = 120.0
LEAST_CHATS = 16
"""Of a row; fewer would give no p99."""
ROUNDS = 2
COLUMNS = (
    *(
        "streams",
        "way",
        "chats",
        "TTFT p50 ms",
        "p99",
        "between tokens p50 ms",
        "p99",
        "at best ms",
        "tokens/s",
        "at best",
    ),
    *("cached share", "failed"),
)


@dataclass(frozen=True, slots=True)
class Plan:
    shape: shape.Shape
    prompts: Prompts
    output_tokens: int
    streams: tuple[int, ...]


PLANS: dict[Device, Plan] = {
    "cuda": Plan(shape.MISTRAL_SMALL_24B, Prompts(8, 2000, 512), 256, bounds.STREAMS),
    "cpu": Plan(shape.SMALL, Prompts(8, 200, 50), 16, (1, 4)),
}
_FLAGS: dict[Device, tuple[str, ...]] = {"cuda": shape.FLAGS, "cpu": shape.FLAGS_ON_CPU}


@contextmanager
def started(on: Device, plan: Plan) -> Iterator[str]:
    """The engine's root; on the CPU with the demo card's flags, since the 24B's card has none for it."""
    with tempfile.TemporaryDirectory() as folder:
        written = shape.write(Path(folder), plan.shape)
        flags = ("--model-path", str(written), "--served-model-name", CARD.id, *_FLAGS[on])
        with engine.running(catalogue()[DEFAULT_CARDS[on]], on, *flags) as url:
            yield url


async def measured(ways: Mapping[str, Server], plan: Plan, repeats: int) -> dict[tuple[int, str], Tally]:
    """By streams and way."""
    tallies = {(count, way): Tally() for count in plan.streams for way in ways}
    async with load.session() as http:
        prompts = await load.calibrated(http, ways["direct"], plan.prompts)
        for count, repeat in product(plan.streams, range(repeats)):
            for way, server in ways.items():
                await load.flush(http, ways["direct"].url)
                tallies[count, way] += await _one(http, server, plan, prompts, count, f"{count} {repeat}")
    return tallies


async def _one(
    http: aiohttp.ClientSession, server: Server, plan: Plan, prompts: Prompts, count: int, seed: str
) -> Tally:
    chats = prompts.drawn(max(LEAST_CHATS, ROUNDS * count), seed)
    return await load.keep_open(http, server, chats, count, LIMIT_S, max_tokens=plan.output_tokens, temperature=0)


def row(streams: int, way: str, tally: Tally, step_s: float | None, running: int) -> list[str]:
    times = [f"{of(share):.1f}" for of in (tally.ttft_ms, tally.gap_ms) for share in (0.5, 0.99)]
    best_ms, best = (f"{step_s * 1000:.1f}", f"{min(streams, running) / step_s:,.0f}") if step_s else ("", "")
    said = (f"{tally.tokens_per_s:,.0f}", best, f"{tally.cached_share:.3f}", str(tally.failures.total()))
    return [str(streams), way, str(len(tally.answers)), *times, best_ms, *said]


def compared(engine_url: str, plan: Plan, repeats: int) -> dict[tuple[int, str], Tally]:
    """Both ways, with a service of our own in front of the engine."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Stack(Path(folder), None, TRAM_ENGINE_URL=engine_url, TRAM_MODEL=CARD.id) as stack,
    ):
        ways = {"direct": Server(engine_url, CARD.id), "service": Server(stack.url, CARD.id, stack.key)}
        return asyncio.run(measured(ways, plan, repeats))


def best_step_s(plan: Plan, gpu: Installed | None, streams: int) -> float | None:
    """None on a GPU whose speed is not known to us, or on none."""
    return bounds.step_s(plan.shape, bounds.SPEEDS[gpu.kind], streams) if gpu and gpu.kind else None


def report_on(engine_url: str, plan: Plan, repeats: int) -> None:
    gpu, told = installed(), engine.about(engine_url)
    running = int(told["max_running_requests"])
    where = f"{gpu.name} ({gpu.memory_mib:,} MiB)" if gpu else "no GPU: a small shape, figures without meaning"
    print(report.taken(where, f"SGLang {told['version']}"))
    print(f"cache of {told['max_total_num_tokens']:,} tokens, {running} running at most\n", flush=True)
    tallies = compared(engine_url, plan, repeats)
    rows = [
        row(count, way, tally, best_step_s(plan, gpu, min(count, running)), running)
        for (count, way), tally in tallies.items()
    ]
    print(report.table(COLUMNS, rows))


def main(arguments: Sequence[str] | None = None) -> None:
    options = argparse.ArgumentParser(description="Time to first token, tokens/s and cached share of the 24B")
    options.add_argument("--url", default="", help="an SGLang that serves it already")
    options.add_argument("--streams", default="", help="such as 1,16")
    options.add_argument("--repeats", type=int, default=2)
    wanted = options.parse_args(arguments)
    on = device()
    plan = PLANS[on]
    if wanted.streams:
        plan = replace(plan, streams=tuple(map(int, wanted.streams.split(","))))
    with nullcontext(wanted.url) if wanted.url else started(on, plan) as url:
        report_on(url, plan, wanted.repeats)


if __name__ == "__main__":
    main()
