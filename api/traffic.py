"""How does an OpenAI-compatible server bear recorded traffic?  The requests are sent again, as far apart as they came, or closer.

Each is sent as a stream, since the first token's time is part of the answer.  No more are open than `at_once`: what comes due meanwhile
goes out late, and is counted.  It ends by itself: with the last answer, or each request after `TIMEOUT_S`; who interrupts it is told what
was measured so far.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from infra.outbound import IDLE_S
from models.replay import request_again
from models.traffic import TAG, Recorded

TIMEOUT_S = 600.0
LATE_S = 0.1
"""From here on a request counts as late."""
_CONNECT_S = 10.0
_LINE_BYTES = 1 << 20  # a chunk with its log probabilities
_DATA, _DONE = b"data:", b"[DONE]"
_OK = 200


@dataclass(frozen=True, slots=True)
class Target:
    url: str
    """With or without `/v1`."""
    key: str
    """Empty: none is sent."""
    model: str | None = None
    """In place of the recorded ones."""
    speed: float = 1.0
    at_once: int = 64


@dataclass(slots=True)
class Report:
    sent: int = 0
    late: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    ttft_ms: list[float] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)
    recorded_ttft_ms: list[float] = field(default_factory=list)
    recorded_latency_ms: list[float] = field(default_factory=list)
    """Of the requests that were sent."""
    chunks: int = 0
    seconds: float = 0.0

    def told(self) -> dict[str, Any]:
        return {
            "sent": self.sent,
            "answered": len(self.latency_ms),
            "failed": self.failures.total(),
            "failures": dict(self.failures),
            "late": self.late,
            "seconds": round(self.seconds, 3),
            "chunks": self.chunks,
            "ttft_ms": {"recorded": spread(self.recorded_ttft_ms), "replayed": spread(self.ttft_ms)},
            "latency_ms": {"recorded": spread(self.recorded_latency_ms), "replayed": spread(self.latency_ms)},
        }


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """p50, p95 and p99 by nearest rank."""
    ranked = sorted(values)
    return {
        f"p{share}": ranked[min(len(ranked) - 1, len(ranked) * share // 100)] if ranked else None
        for share in (50, 95, 99)
    }


async def send_again(
    requests: AsyncIterator[Recorded], target: Target, sent: Callable[[Report], None] = lambda _: None
) -> Report:
    """`sent` is called whenever a request has ended."""
    report, loop = Report(), asyncio.get_running_loop()
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S, sock_connect=_CONNECT_S)
    headers = {"X-Aig-Tag": TAG, "Content-Type": "application/json"}
    headers |= {"Authorization": f"Bearer {target.key}"} if target.key else {}
    start_s = loop.time()
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_S)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, headers=headers, read_bufsize=_LINE_BYTES, trust_env=False
    ) as http:
        try:
            await _all(_Sending(http, target, report, sent), requests)
        except asyncio.CancelledError:
            report.failures["interrupted"] += report.sent - len(report.latency_ms) - report.failures.total()
        report.seconds = loop.time() - start_s
    return report


@dataclass(frozen=True, slots=True)
class _Sending:
    http: aiohttp.ClientSession
    target: Target
    report: Report
    sent: Callable[[Report], None]


async def _all(sending: _Sending, requests: AsyncIterator[Recorded]) -> None:
    loop, places = asyncio.get_running_loop(), asyncio.Semaphore(sending.target.at_once)
    start_s, began_ms = loop.time(), None
    async with asyncio.TaskGroup() as group:
        async for request in requests:
            began_ms = request.created_ms if began_ms is None else began_ms
            due_s = start_s + (request.created_ms - began_ms) / 1000 / sending.target.speed
            await asyncio.sleep(max(0.0, due_s - loop.time()))
            await places.acquire()
            sending.report.late += loop.time() - due_s > LATE_S
            sending.report.sent += 1
            group.create_task(_one(sending, request)).add_done_callback(lambda _: places.release())


async def _one(sending: _Sending, request: Recorded) -> None:
    report = sending.report
    for values, value in (
        (report.recorded_ttft_ms, request.ttft_ms),
        (report.recorded_latency_ms, request.latency_ms),
    ):
        if value is not None:
            values.append(value)
    try:
        await _measured(sending, request)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:  # the last: what was sent is no JSON
        report.failures[type(error).__name__] += 1
    sending.sent(report)


async def _measured(sending: _Sending, request: Recorded) -> None:
    clock, report = asyncio.get_running_loop().time, sending.report
    url = sending.target.url.rstrip("/").removesuffix("/v1") + "/v1/chat/completions"
    body = body_of(request, sending.target.model)
    start_s, first_s = clock(), None
    async with sending.http.post(url, data=orjson.dumps(body)) as answer:
        if answer.status != _OK:
            report.failures[f"HTTP {answer.status}"] += 1
            return
        async for line in answer.content:
            data = line[len(_DATA) :].strip() if line.startswith(_DATA) else b""
            if not data or data == _DONE:
                continue
            chunk = orjson.loads(data)
            if fault := _fault(chunk):
                report.failures[fault] += 1
                return
            report.chunks += 1
            if first_s is None and _says(chunk):
                first_s = clock()
    report.latency_ms.append((clock() - start_s) * 1000)
    if first_s is not None:
        report.ttft_ms.append((first_s - start_s) * 1000)


def body_of(request: Recorded, model: str | None) -> dict[str, Any]:
    """The recorded request, as a stream; not to be stored, since one key sends what several accounts have said."""
    again = request_again(request.parameters, request.messages, model or request.model, {})
    return again | {"stream": True, "store": False}


def _fault(chunk: Any) -> str | None:
    """What the answer failed with, where this is no part of one."""
    if not isinstance(chunk, dict):
        return "odd event"
    if "error" in chunk:
        error = chunk["error"]
        return str((error.get("code") if isinstance(error, dict) else None) or "error event")
    choices = chunk.get("choices") or []
    sound = isinstance(choices, list) and all(isinstance(choice, dict) for choice in choices)
    return None if sound and all(isinstance(choice.get("delta") or {}, dict) for choice in choices) else "odd event"


def _says(chunk: dict[str, Any]) -> bool:
    deltas = [choice.get("delta") or {} for choice in chunk.get("choices") or ()]
    return any(delta.get("content") or delta.get("tool_calls") or delta.get("function_call") for delta in deltas)
