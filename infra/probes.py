"""Is a child ready, and is it still well?

Both are asked over and over, of a callable that the child's description brings.  An answer that does not come within seconds
is a no; so is an `OSError` (connection refused, a time-out).  Any other error is the asker's own fault and goes up.  Refuses
to act: what follows from the answers is `infra.processes`' work.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

Ready = Callable[[], Awaitable[bool]]
Alive = Callable[[], Awaitable[str]]

_PROBE_S = 5.0  # a probe that hangs is one that says no
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.02, 0.25
_PAUSE_SHARE = 0.05  # of the time gone by: being ready is noticed at most so much late
_ROUNDS = 12  # a child has so many chances to say that it is well before it has been unwell for too long


async def becomes_ready(ready: Ready, ended: asyncio.Future[int], within_s: float) -> bool:
    """False: it has ended, or the time is up."""
    probing = asyncio.create_task(_until_ready(ready))
    try:
        either: set[asyncio.Future[Any]] = {probing, ended}
        await asyncio.wait(either, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        if probing.done():
            probing.result()
        return probing.done() and not ended.done()
    finally:
        probing.cancel()


async def stays_well(alive: Alive | None, ended: asyncio.Future[int], unwell_s: float) -> str:
    """Returns when it has ended, with nothing to say; or with the last complaint, when there was none but those for `unwell_s`."""
    if alive is None:
        await asyncio.wait({ended})
        return ""
    worrying = asyncio.create_task(_until_unwell(alive, unwell_s))
    try:
        either: set[asyncio.Future[Any]] = {worrying, ended}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return "" if ended.done() else worrying.result()
    finally:
        worrying.cancel()


async def _until_ready(ready: Ready) -> None:
    clock = asyncio.get_running_loop().time
    began = clock()
    while True:
        if await _says_ready(ready):
            return
        await asyncio.sleep(min(max((clock() - began) * _PAUSE_SHARE, _FIRST_PAUSE_S), _LAST_PAUSE_S))


async def _says_ready(ready: Ready) -> bool:
    try:
        async with asyncio.timeout(_PROBE_S):
            return await ready()
    except OSError:
        return False


async def _until_unwell(alive: Alive, limit_s: float) -> str:
    clock = asyncio.get_running_loop().time
    pause_s, unwell_s, complaint = limit_s / _ROUNDS, 0.0, ""
    while unwell_s < limit_s:
        began = clock()
        await asyncio.sleep(pause_s)
        complaint = await _complaint(alive)
        # A round that took longer was this process's own sleep (a container's that was stopped): the child slept too.
        unwell_s = unwell_s + min(clock() - began, pause_s + _PROBE_S) if complaint else 0.0
    return f"{complaint}, for {unwell_s:.0f} s"


async def _complaint(alive: Alive) -> str:
    try:
        async with asyncio.timeout(_PROBE_S):
            return await alive()
    except OSError as error:
        return f"it did not answer ({type(error).__name__})"
