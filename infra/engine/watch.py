"""Is a running SGLang well?  It answers, it takes requests, and while it has requests their tokens come.

Three ways to be ill: the server does not answer; it answers, and its scheduler or detokenizer takes nothing (a request of one
token, which SGLang answers at once and without computing when it is busy); requests run and no token is made.  The last is read
from `/v1/loads`: a snapshot in shared memory that the scheduler writes after each step, so that asking costs the scheduler
nothing and works when that stands still.  Tokens are those of prompts too: a prompt of 131,072 is computed in pieces of some
thousand, and each piece counts as progress.

Tells the complaint of this moment only; `infra.probes` decides for how long one may last.  Refuses to judge what it cannot
read: a server without `/v1/loads` is judged by its answers alone.
"""

from dataclasses import dataclass
from typing import Any

import aiohttp

# Together within the supervisor's patience for one look.
_LOAD = aiohttp.ClientTimeout(total=1.5)
_TOKEN = aiohttp.ClientTimeout(total=3.0)  # SGLang looks for its own answer once a second
_OK, _NOT_FOUND = 200, 404


@dataclass(frozen=True, slots=True)
class Load:
    requests: int
    """Running or waiting, of all schedulers."""
    progress: tuple[Any, ...]
    """Moves with every step: prompt tokens computed, tokens made, tokens in the cache."""


NOTHING = Load(0, ())


class EngineWatch:
    """`complaint` compares with what it saw the time before; one watch may outlive the engine it began with."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._before = NOTHING

    async def complaint(self) -> str:
        """Empty while all is well.  An `OSError` is a server that cannot be reached."""
        try:
            async with aiohttp.ClientSession() as http:
                before, self._before = self._before, await self._load(http)
                takes = await self._takes_requests(http)
        except (aiohttp.ClientError, TimeoutError) as error:
            return f"the server did not answer ({type(error).__name__})"
        if self._before.requests and self._before.progress == before.progress:
            return f"{self._before.requests} requests, and no token"
        return "" if takes else "it took no request"

    async def _load(self, http: aiohttp.ClientSession) -> Load:
        async with http.get(f"{self._url}/v1/loads", params={"include": "core"}, timeout=_LOAD) as answer:
            if answer.status == _NOT_FOUND:
                return NOTHING
            answer.raise_for_status()
            try:
                told = await answer.json(content_type=None)
            except ValueError:  # a gateway's page, say
                return NOTHING
            return load_of(told) if isinstance(told, dict) else NOTHING

    async def _takes_requests(self, http: aiohttp.ClientSession) -> bool:
        try:
            async with http.get(f"{self._url}/health_generate", timeout=_TOKEN) as answer:
                return answer.status == _OK
        except TimeoutError:
            return False


def load_of(told: dict[str, Any]) -> Load:
    """What `/v1/loads` tells, one entry a scheduler."""
    schedulers = told.get("loads", ())
    requests = sum(each.get("num_running_reqs", 0) + each.get("num_waiting_reqs", 0) for each in schedulers)
    counters = ("total_prefill_uncached_tokens", "decode_moments", "num_used_tokens")
    return Load(requests, tuple(each.get(counter) for each in schedulers for counter in counters))
