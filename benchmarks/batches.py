"""Is each row of a large batch answered once, while workers are killed, and does no process grow with it?  `make bench NAME=batches`.

10,000 rows of sixteen tokens through the embedded stack and the scriptable engine; SIGKILL to the worker when a quarter and when half of
them have ended.  Then both files are read: each row must be in them once and answered as the engine says, and the counts and the usage
must be exact, or this fails.  Every 500 rows the kernel is asked what memory is each process's alone; a straight line is laid through
the samples from 2,000 rows on (the worker's: those since its last start): its slope is bytes a row, and 2 KiB is the most it may be.
"""

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.memory import Samples, own_bytes, slope
from tests.flow.engine import Engine, tokens
from tests.flow.stack import START_S, Stack, until

ROWS = 10_000
TOKENS = 16
KILLED_AT = (0.25, 0.5)
SAMPLED_EVERY, SETTLED = 0.05, 0.2
MOST_BYTES = 2048
TEXT_BYTES = 500
"""Of each request's own, so that the file is megabytes."""
JUDGED = ("upkeep", "api", "worker")
ENDED = {"completed", "failed", "expired", "cancelled"}
END_S = 1800.0
COLUMNS = ("process", "at first MB", "at the end MB", "most MB", "bytes a row", f"within {MOST_BYTES}")


def rows(count: int) -> Iterator[bytes]:
    for number in range(count):
        shared = f"You are assistant {number % 20}. " * (TEXT_BYTES // 20)
        messages = [{"role": "system", "content": shared}, {"role": "user", "content": f"!tokens={TOKENS}"}]
        line = {"custom_id": f"row-{number}", "method": "POST", "url": "/v1/chat/completions"}
        yield json.dumps(line | {"body": {"messages": messages}}).encode() + b"\n"


def begun(stack: Stack, count: int) -> str:
    file = stack.http.post(
        "/v1/files", files={"file": ("rows.jsonl", b"".join(rows(count)))}, data={"purpose": "batch"}
    )
    body = {"input_file_id": file.raise_for_status().json()["id"], "endpoint": "/v1/chat/completions"}
    made = stack.http.post("/v1/batches", json=body | {"completion_window": "1d"})
    return str(made.raise_for_status().json()["id"])


def watched(stack: Stack, batch_id: str, count: int) -> tuple[dict[str, Any], Samples, int]:
    """The batch once it has ended, the samples, and at how many rows the worker was last killed."""
    kills, samples, killed = [round(share * count) for share in KILLED_AT], Samples(), 0
    give_up, following = time.monotonic() + END_S, 0
    while True:
        batch = stack.http.get(f"/v1/batches/{batch_id}").raise_for_status().json()
        done = batch["request_counts"]["completed"] + batch["request_counts"]["failed"]
        if kills and done >= kills[0]:
            stack.restarted("worker", stack.kill("worker"))
            kills, killed = kills[1:], done
            print(f"{done} rows: the worker is killed", flush=True)
        if done >= following and set(JUDGED) <= stack.processes().keys():
            samples.append((done, {name: own_bytes(stack.processes()[name]) for name in JUDGED}))
            following = done + round(SAMPLED_EVERY * count)
        if batch["status"] in ENDED:
            return batch, samples, killed
        assert time.monotonic() < give_up, f"not done within {END_S:g} s: {batch['request_counts']}"
        time.sleep(0.2)


def judged(stack: Stack, batch: dict[str, Any], count: int) -> None:
    """Raises AssertionError for a row that is missing, told twice or answered in other words, and for counts that are not so."""
    assert batch["status"] == "completed", batch
    assert batch["error_file_id"] is None, stack.http.get(f"/v1/files/{batch['error_file_id']}/content").text[:2000]
    text = stack.http.get(f"/v1/files/{batch['output_file_id']}/content").raise_for_status().text
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["custom_id"] for line in lines] == [f"row-{number}" for number in range(count)]
    said = Counter(line["response"]["body"]["choices"][0]["message"]["content"] for line in lines)
    assert said == {tokens(TOKENS): count}, said
    assert batch["request_counts"] == {"total": count, "completed": count, "failed": 0}
    assert batch["usage"]["output_tokens"] == TOKENS * count
    assert len({line["response"]["request_id"] for line in lines}) == count
    assert stack.rows(f"SELECT count(*) FROM jobs WHERE batch_id = '{batch['id']}'") == [(count,)]


def told(samples: Samples, name: str, since: int) -> list[str]:
    own = [(done, sizes) for done, sizes in samples if done > since]
    sizes = [each[name] / 1e6 for _, each in own]
    grows = slope(own, name)
    return [name, *(f"{size:.1f}" for size in (sizes[0], sizes[-1], max(sizes))), f"{grows:+.0f}", _verdict(grows)]


def _verdict(grows: float) -> str:
    return "yes" if grows <= MOST_BYTES else "no"


def main(arguments: Sequence[str] | None = None) -> None:
    options = argparse.ArgumentParser(description="A large batch, with the worker killed twice")
    options.add_argument("--rows", type=int, default=ROWS)
    count = options.parse_args(arguments).rows
    print(report.taken("embedded stack, scriptable engine"))
    with tempfile.TemporaryDirectory() as folder, Engine() as scripted, Stack(Path(folder), scripted) as stack:
        until(lambda: set(JUDGED) <= stack.processes().keys(), START_S)
        batch_id, began = begun(stack, count), time.monotonic()
        batch, samples, killed = watched(stack, batch_id, count)
        took_s = time.monotonic() - began
        judged(stack, batch, count)
    settled = round(SETTLED * count)
    table = [told(samples, name, max(settled, killed) if name == "worker" else settled) for name in JUDGED]
    print(
        f"\n{count:,} rows, each once, in {took_s:.0f} s: {count / took_s:.0f} rows/s, two deaths of the worker among them\n"
    )
    print(report.table(COLUMNS, table))
    assert all(line[-1] == "yes" for line in table), "a process grows with the rows"


if __name__ == "__main__":
    main()
