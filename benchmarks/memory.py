"""Does a process of ours grow with the jobs it has seen?  `make bench NAME=memory`.

5,000 short jobs through the embedded stack and the scriptable engine: streams, waits and background jobs by turns, 32 at a time.
Every 250 jobs, when all have ended, the kernel is asked what memory is each process's alone.  From 1,000 jobs on, when pools and caches
are full, a straight line is laid through the samples: its slope is bytes a job, and 1 KiB is the most it may be.  Nothing leaves the
loopback address; a lot of 250 jobs ends after 120 s.
"""

import argparse
import asyncio
import re
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import aiohttp

from benchmarks import load, report
from tests.flow.engine import Engine
from tests.flow.stack import Stack

JOBS = 5000
SAMPLES, SETTLED = 20, 4
"""How often the kernel is asked, and the first sample that the line is laid through."""
AT_ONCE = 32
MOST_BYTES = 1024
LOT_S = 120.0
JUDGED = ("worker", "api", "upkeep")
COLUMNS = ("process", "jobs", "at first MB", "once settled MB", "at the end MB", "bytes a job", f"within {MOST_BYTES}")
_TEXT = "!tokens=16"
_PRIVATE = re.compile(r"^Private_\w+: +(\d+) kB$", re.MULTILINE)

Samples = list[tuple[int, dict[str, int]]]
"""Jobs so far, and each process's own bytes."""


async def stream(http: aiohttp.ClientSession, url: str) -> None:
    async with http.post(f"{url}/v1/chat/completions", json=_said(stream=True)) as answer:
        await _to_its_end(answer)


async def wait(http: aiohttp.ClientSession, url: str) -> None:
    async with http.post(f"{url}/v1/chat/completions", json=_said()) as answer:
        await _to_its_end(answer)


async def background(http: aiohttp.ClientSession, url: str) -> None:
    async with http.post(f"{url}/v1/jobs", json=_said()) as answer:
        answer.raise_for_status()
        job = (await answer.json())["id"]
    async with http.get(f"{url}/v1/jobs/{job}/events") as events:
        await _to_its_end(events)


async def _to_its_end(answer: aiohttp.ClientResponse) -> None:
    answer.raise_for_status()
    await answer.read()


def _said(**fields: bool) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": _TEXT}], **fields}


KINDS = (stream, wait, background)


async def lot(http: aiohttp.ClientSession, url: str, numbers: range) -> None:
    """One job for each number; returns when all have ended."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with gate:
            await KINDS[number % len(KINDS)](http, url)

    async with asyncio.timeout(LOT_S), asyncio.TaskGroup() as group:
        for number in numbers:
            group.create_task(one(number))


def own_bytes(pid: int) -> int:
    """What would come back if the process ended."""
    told = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * sum(int(kilobytes) for kilobytes in _PRIVATE.findall(told))


def slope(samples: Samples, name: str) -> float:
    """Bytes a job."""
    counts, sizes = zip(*[(jobs, sizes[name]) for jobs, sizes in samples], strict=True)
    return statistics.linear_regression(counts, sizes).slope


def row(samples: Samples, name: str) -> list[str]:
    shown = [samples[number][1][name] / 1e6 for number in (0, SETTLED - 1, -1)]
    grows = slope(samples[SETTLED - 1 :], name)
    verdict = "yes" if grows <= MOST_BYTES else "no"
    return [name, f"{samples[-1][0]:,}", *(f"{size:.1f}" for size in shown), f"{grows:+.0f}", verdict]


async def sampled(stack: Stack, every: int) -> Samples:
    pids, samples = stack.processes(), Samples()
    async with load.session(stack.key) as http:
        for done in range(every, SAMPLES * every + 1, every):
            await lot(http, stack.url, range(done - every, done))
            samples.append((done, {name: own_bytes(pids[name]) for name in JUDGED}))
            told = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in samples[-1][1].items())
            print(f"{done} jobs: {told}", flush=True)
    return samples


def main(arguments: Sequence[str] | None = None) -> None:
    options = argparse.ArgumentParser(description="Memory of the service's processes over many jobs")
    options.add_argument("--jobs", type=int, default=JOBS)
    wanted = options.parse_args(arguments)
    print(report.taken("embedded stack, scriptable engine"))
    with tempfile.TemporaryDirectory() as folder, Engine() as scripted, Stack(Path(folder), scripted) as stack:
        samples = asyncio.run(sampled(stack, wanted.jobs // SAMPLES))
        if scripted.state()["finished"] < samples[-1][0]:
            raise RuntimeError("not every job was answered: these figures are of something else")
    print("\n" + report.table(COLUMNS, [row(samples, name) for name in JUDGED]))


if __name__ == "__main__":
    main()
