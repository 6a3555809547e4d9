"""How are the processes of one `tram` started, watched and stopped?

A supervisor starts children in the order of their needs, asks each whether it is ready and then whether it is well, restarts
one that dies or stays unwell, and leaves no process behind: each runs below a keeper (`infra.keeper`) that ends it and its
descendants when the supervisor lets go or dies.  Relies on Linux.  Refuses to restart what was never ready, and what
`infra.restarts` gives up: that is `ChildFailed`.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Never

from infra.child_output import output_of
from infra.probes import Alive, Ready, becomes_ready, stays_well
from infra.restarts import Deaths, RestartPolicy
from models.errors import TramError

_KEEPER = Path(__file__).with_name("keeper.py")
# Exit statuses: 128 + n as a keeper (and a shell) tells of its child, -n should a keeper itself be killed.
_KILLED = {status: number.name for number in signal.Signals for status in (128 + number, -number)}

_TAIL_LINES = 20
_HURRY = b"!"


@dataclass(frozen=True, slots=True)
class Child:
    name: str
    argv: tuple[str, ...]
    variables: Mapping[str, str | None]
    """Added to this process's environment; None takes a variable away."""
    ready: Ready
    """A cheap probe, called until true; an `OSError` (connection refused, a time-out) counts as false."""
    start_s: float
    """How long it may take to become ready."""
    stop_s: float
    """How long it has from SIGTERM to SIGKILL."""
    needs: tuple[str, ...] = ()
    """Children that must be ready before this one starts."""
    log: Path | None = None
    """Takes standard output and error, appended; None: this process's own."""
    aloud: bool = False
    """In place of `log`: told on this process's standard output, each line behind the child's name."""
    alive: Alive | None = None
    """Asked over and over once it is ready: a complaint, or nothing while all is well.  An `OSError` is a complaint."""
    unwell_s: float = 60.0
    """With complaints and nothing else for so long it is killed, and starts again."""
    explain: Callable[[Sequence[str], str], str] | None = None
    """What its last lines and the way it ended come to, in one line; nothing if they tell nothing."""


class Step(StrEnum):
    STARTING = "starting"
    READY = "ready"
    """`seconds` after its start."""
    DIED = "died"
    """`seconds` after its start; `detail` says how."""
    RESTARTING = "restarting"
    """In `seconds` from now."""
    STOPPING = "stopping"
    STOPPED = "stopped"
    """`seconds` after it was told to; `detail` says how."""


@dataclass(frozen=True, slots=True)
class Event:
    child: str
    step: Step
    seconds: float = 0.0
    detail: str = ""


class ChildFailed(TramError):
    """A child was never ready, or keeps dying."""

    code = "child_failed"

    def __init__(self, name: str, how: str, *, log: Path | None, last_lines: tuple[str, ...]) -> None:
        super().__init__(f"{name} {how}" + (f"; its log is {log}" if log else ""))
        self.name = name
        self.how = how
        self.log = log
        self.last_lines = last_lines


class _Life:
    """One run of a child, below its keeper.  `ended` holds the exit status once nothing of it is left."""

    def __init__(self, child: Child, hold: Sequence[int]) -> None:
        loop = asyncio.get_running_loop()
        self.began = loop.time()
        self.ended: asyncio.Future[int] = loop.create_future()
        self.output = output_of(child.name, child.log, aloud=child.aloud)
        self.last_lines: tuple[str, ...] | None = None
        # The keeper's end closes when it dies, this end when this process does: each learns of the other's death.
        self._rope, keepers_end = socket.socketpair()
        with keepers_end:
            self._keeper = _start_keeper(child, keepers_end, hold, self.output.descriptor)
        self.output.started()
        loop.add_reader(self._rope, self._reap)

    def let_go(self) -> None:
        """The keeper ends what it keeps; `ended` follows."""
        if not self.ended.done():
            self._rope.shutdown(socket.SHUT_WR)

    def kill(self) -> None:
        """Like `let_go`, without asking first."""
        if not self.ended.done():
            self._rope.send(_HURRY)

    async def over(self) -> str:
        """How it ended, in words, once its last lines were told."""
        await asyncio.wait({self.ended})
        if self.last_lines is None:
            self.last_lines = await asyncio.to_thread(self.output.finish)
        return _in_words(self.ended.result())

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._rope)
        self._rope.close()
        self.ended.set_result(self._keeper.wait())

    def age_s(self) -> float:
        return asyncio.get_running_loop().time() - self.began


class Supervisor:
    def __init__(
        self,
        children: Sequence[Child],
        report: Callable[[Event], None],
        *,
        policy: RestartPolicy | None = None,
        hold: tuple[int, ...] = (),
    ) -> None:
        """`hold`: descriptors that stay open until the last process is gone, even if this one is killed before."""
        self._children = {child.name: child for child in children}
        order = TopologicalSorter({child.name: child.needs for child in children}).static_order()
        if missing := set(order) - set(self._children):
            raise ValueError(f"needed, but not among the children: {', '.join(sorted(missing))}")
        self._report = report
        self._policy = policy or RestartPolicy()
        self._hold = hold
        self._ready = {name: asyncio.Event() for name in self._children}
        self._lives: dict[str, _Life] = {}  # in the order of first starts

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set, or `ChildFailed`; either way no process is left when it returns."""
        watches = [asyncio.create_task(self._watch(child)) for child in self._children.values()]
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([stopping, *watches], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (stopping, *watches):
                task.cancel()
            await self._stop_all()
        await _raise_first_failure(watches)

    async def _watch(self, child: Child) -> Never:
        deaths = Deaths(self._policy)
        was_ready = False
        while True:
            for need in child.needs:
                await self._ready[need].wait()
            life = self._start(child)
            ready_s, how = await self._see_through(child, life)
            was_ready = was_ready or ready_s is not None
            if not was_ready:
                raise _failure(child, life, how)
            delay_s = deaths.add(asyncio.get_running_loop().time(), ready_s)
            if delay_s is None:
                raise _failure(child, life, f"{deaths.too_many}; the last time it {how}")
            self._tell(child, Step.RESTARTING, delay_s)
            await asyncio.sleep(delay_s)

    def _start(self, child: Child) -> _Life:
        self._tell(child, Step.STARTING)
        life = self._lives[child.name] = _Life(child, self._hold)
        return life

    async def _see_through(self, child: Child, life: _Life) -> tuple[float | None, str]:
        """From start to death: how many seconds it was ready (None: never), and how it ended."""
        if not await becomes_ready(child.ready, life.ended, child.start_s):
            late = "" if life.ended.done() else f"was not ready after {child.start_s:g} s"
            life.let_go()
            return None, self._mourn(child, life, await _explained(child, life, late))
        start_s = life.age_s()
        self._tell(child, Step.READY, start_s)
        self._ready[child.name].set()
        complaint = await stays_well(child.alive, life.ended, child.unwell_s)
        self._ready[child.name].clear()
        if complaint:
            life.kill()
            await life.over()
        how = f"was killed: {complaint}" if complaint else await _explained(child, life, "")
        return life.age_s() - start_s, self._mourn(child, life, how)

    def _mourn(self, child: Child, life: _Life, how: str) -> str:
        self._tell(child, Step.DIED, life.age_s(), how)
        return how

    async def _stop_all(self) -> None:
        try:
            for name, life in reversed(self._lives.items()):
                if not life.ended.done():
                    await self._stop(self._children[name], life)
        finally:  # a second cancellation ends the order, not the processes
            for life in self._lives.values():
                life.let_go()

    async def _stop(self, child: Child, life: _Life) -> None:
        self._tell(child, Step.STOPPING)
        asked_s = life.age_s()
        life.let_go()
        how = await life.over()
        self._tell(child, Step.STOPPED, life.age_s() - asked_s, how)

    def _tell(self, child: Child, step: Step, seconds: float = 0.0, detail: str = "") -> None:
        self._report(Event(child.name, step, seconds, detail))


def _start_keeper(
    child: Child, rope: socket.socket, hold: Sequence[int], output: int | None
) -> subprocess.Popen[bytes]:
    held = ",".join(str(descriptor) for descriptor in hold)
    keeper = (sys.executable, "-I", "-S", str(_KEEPER), str(child.stop_s), held)
    return subprocess.Popen(
        (*keeper, *child.argv),
        stdin=rope.fileno(),
        stdout=output,
        stderr=output,
        env=_environment(child.variables),
        start_new_session=True,  # Ctrl-C in the terminal reaches the supervisor alone
        pass_fds=hold,
    )


def _environment(variables: Mapping[str, str | None]) -> dict[str, str]:
    merged = {**os.environ, **variables}
    return {name: value for name, value in merged.items() if value is not None}


async def _raise_first_failure(tasks: Sequence[asyncio.Task[Never]]) -> None:
    for end in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(end, Exception):
            raise end


async def _explained(child: Child, life: _Life, late: str) -> str:
    """How it ended, and what its last lines say to it."""
    how = await life.over()
    explanation = child.explain(life.last_lines or (), how) if child.explain else ""
    return ": ".join(filter(None, (late or how, explanation)))


def _failure(child: Child, life: _Life, how: str) -> ChildFailed:
    return ChildFailed(child.name, how, log=child.log, last_lines=(life.last_lines or ())[-_TAIL_LINES:])


def _in_words(status: int) -> str:
    return f"was killed by {_KILLED[status]}" if status in _KILLED else f"exited with status {status}"
