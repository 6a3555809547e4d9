"""What does Tramontane add to talking to the engine directly?  `make bench`, or `python -m benchmarks.overhead [--streams 1,32,128]`.

A scriptable engine says 50 tokens a second and stamps each with the clock, so a token's way is measured from the engine's mouth to
the client's ear.  Direct and through take turns in one run, on one machine, the load generator included.  CPU is the kernel's
count of our processes and Redis: of a chat that says one token, and what each further token adds.  Nothing leaves the loopback
address; a run ends after a minute or two.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.load import percentile
from tests.flow.stack import Stack

ENGINE = Path(__file__).parents[1] / "tests" / "fakes" / "engine.py"
TOKENS, RATE, FIRST_S = 100, 50, 0.05
SPREAD_S = 1.0  # callers do not come in one millisecond: each count of streams is reached over a second
OURS = ("api", "worker", "redis", "upkeep")
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass
class Run:
    streams: int
    ttft_ms: list[float] = field(default_factory=list)
    token_ms: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu_us: dict[str, float] = field(default_factory=dict)
    """By process."""


async def stream(http: aiohttp.ClientSession, url: str, run: Run, tokens: int, after_s: float) -> None:
    await asyncio.sleep(after_s)
    script = f"!tokens={tokens} rate={RATE} first={FIRST_S} stamp"
    body = {"messages": [{"role": "user", "content": script}], "stream": True}
    asked, first = time.monotonic_ns(), True
    async with http.post(f"{url}/v1/chat/completions", json=body) as answer:
        answer.raise_for_status()
        async for line in answer.content:
            heard = time.monotonic_ns()
            if not line.startswith(b"data: {"):
                continue
            content = json.loads(line[6:])["choices"][0]["delta"].get("content")
            if not content:
                continue
            run.token_ms.append((heard - int(content)) / 1e6)
            if first:
                run.ttft_ms.append((heard - asked) / 1e6 - FIRST_S * 1000)
                first = False


async def load(url: str, key: str, streams: int, pids: dict[str, int], tokens: int = TOKENS) -> Run:
    run, before = Run(streams), {name: cpu_s(pid) for name, pid in pids.items()}
    headers, connector = {"Authorization": f"Bearer {key}"}, aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=headers, connector=connector, trust_env=False) as http:
        began = time.monotonic()
        await asyncio.gather(*(stream(http, url, run, tokens, SPREAD_S * n / streams) for n in range(streams)))
        run.seconds = time.monotonic() - began
    run.cpu_us = {name: (cpu_s(pid) - before[name]) * 1e6 for name, pid in pids.items()}
    return run


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def merged(runs: Sequence[Run]) -> Run:
    whole = Run(runs[0].streams, seconds=sum(run.seconds for run in runs) / len(runs))
    for run in runs:
        whole.ttft_ms += run.ttft_ms
        whole.token_ms += run.token_ms
    names = runs[0].cpu_us
    whole.cpu_us = {name: sum(run.cpu_us[name] for run in runs) / len(runs) for name in names}
    return whole


def row(direct: Run, through: Run, short: Run) -> list[str]:
    """`short`: chats of one token, through."""

    def added(name: str, share: float) -> str:
        ours, theirs = percentile(getattr(through, name), share), percentile(getattr(direct, name), share)
        return f"{ours - theirs:+.1f} ({ours:.1f} / {theirs:.1f})"

    streams, cpu, first = through.streams, through.cpu_us, sum(short.cpu_us.values())
    return [
        str(streams),
        *(added(name, share) for name in ("ttft_ms", "token_ms") for share in (0.5, 0.99)),
        f"{direct.seconds / through.seconds:.3f}",
        f"{sum(cpu.values()) / streams / TOKENS:.0f}",
        f"{first / streams / 1000:.1f}",
        f"{(sum(cpu.values()) - first) / streams / (TOKENS - 1):.0f}",
        " ".join(f"{name} {cpu[name] / streams / TOKENS:.0f}" for name in OURS),
    ]


async def compare(engine_url: str, stack: Stack, counts: Sequence[int], repeats: int, console: Console) -> Table:
    columns = (
        "streams",
        "added TTFT p50 ms",
        "p99",
        "added per token p50 ms",
        "p99",
        "tokens/s of direct",
        f"CPU us/token, {TOKENS} a chat",
        "of a chat of 1, ms",
        "of a further one, us",
        "by process, us/token",
    )
    table = Table(*columns, title="added (through / direct)")
    pids = {name: pid for name, pid in stack.processes().items() if name in OURS}
    await load(stack.url, stack.key, 4, pids)  # connections, caches and code paths, once
    await load(engine_url, "", 4, {})
    for streams in counts:
        runs: dict[str, list[Run]] = {"direct": [], "through": [], "short": []}
        for repeat in range(repeats):
            console.print(f"{streams} streams, run {repeat + 1} of {repeats}", style="dim")
            runs["direct"].append(await load(engine_url, "", streams, {}))
            runs["through"].append(await load(stack.url, stack.key, streams, pids))
            runs["short"].append(await load(stack.url, stack.key, streams, pids, tokens=1))
        table.add_row(*row(*map(merged, runs.values())))
    return table


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    options.add_argument("--streams", default="1,32,128")
    options.add_argument("--repeats", type=int, default=3)
    wanted = options.parse_args()
    console = Console(width=160)
    command = (sys.executable, str(ENGINE), "--port", "0")
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process, tempfile.TemporaryDirectory() as folder:
        assert process.stdout is not None
        engine_url = json.loads(process.stdout.readline())["url"]
        try:
            with Stack(Path(folder), TRAM_ENGINE_URL=engine_url) as stack:
                counts = [int(count) for count in wanted.streams.split(",")]
                console.print(uvloop.run(compare(engine_url, stack, counts, wanted.repeats, console)))
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
