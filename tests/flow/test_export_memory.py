"""More than a thousand conversations go out and come in through a process that does not grow with them."""

import json
from pathlib import Path
from uuid import uuid4

import pytest

from tests.flow.engine import Engine
from tests.flow.stack import Stack

CONVERSATIONS = 1500
TEXT = "word " * 1000  # 5 KB a message, so the file has some 46 MB
GROWTH_MOST_BYTES = 40 << 20
"""A page of conversations, a row group, and what the allocator keeps; the file is larger than that."""


def resident_bytes(stack: Stack) -> int:
    status = Path(f"/proc/{stack.processes()['api']}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) * 1024


def lines(number: int) -> bytes:
    def turn(place: int) -> list[dict[str, str]]:
        asked = {"role": "user", "content": f"{number} {place} {uuid4().hex} {TEXT}"}
        return [asked, {"role": "assistant", "content": f"{uuid4().hex} {TEXT}"}]

    messages = [message for place in range(3) for message in turn(place)]
    return json.dumps({"messages": messages}).encode() + b"\n"


@pytest.mark.timeout(400)
def test_memory_is_flat(tmp_path: Path):
    file = tmp_path / "many.jsonl"
    with file.open("wb") as opened:
        opened.writelines(map(lines, range(CONVERSATIONS)))
    size = file.stat().st_size
    with Engine() as engine, Stack(tmp_path / "stack", engine) as stack:
        stack.http.get("/v1/conversations/export?format=parquet&text=nothing").raise_for_status()  # pyarrow is there
        before = resident_bytes(stack)
        with file.open("rb") as opened:
            told = stack.http.post("/v1/conversations/import", content=opened, timeout=280).raise_for_status().json()
        assert (told["conversations"], told["turns"]) == (CONVERSATIONS, 3 * CONVERSATIONS)
        grown = {"import": resident_bytes(stack) - before}
        for form in ("openai", "sharegpt", "parquet"):
            got = 0
            with stack.http.stream("GET", "/v1/conversations/export", params={"format": form}, timeout=280) as answer:
                for piece in answer.iter_bytes():
                    got += len(piece)
            assert got > (size / 2 if form != "parquet" else 100_000)
            grown[form] = resident_bytes(stack) - before
        assert max(grown.values()) < GROWTH_MOST_BYTES < size, (grown, size)
