"""Who sees to it that nothing outlives the supervisor?  One small process per child, standing between the two.

A program of its own (`python -I -S keeper.py STOP_S DESCRIPTORS COMMAND…`), hence no import beyond the standard library.  It
starts the command in a session of its own and stays until no descendant is left.  It ends them when its standard input
closes: the kernel closes it however the supervisor dies, SIGKILL too, so an ordered stop and a crash take the same road.  A byte
on it is a stop without patience, for a family that no longer answers: SIGKILL at once.

Relies on Linux: a subreaper inherits every orphan below it, whatever session that moved to.  Refuses to restart anything
and to leave first; should somebody kill it with SIGKILL, the kernel sends the command after it.
"""

import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

_STDIN = 0
_STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
_NOT_STARTED = 127  # what a shell says of a command that it cannot run
_KILLED = 128  # likewise: plus the number of the signal

_LEFTOVERS_S = 1.0  # what outlives its leader may end by itself for so long; its work is lost, its GPU memory wanted
_KILL_AGAIN_S = 0.1  # a process that forks while its family is being killed is found in the next round


class Family:
    """The leader and everything that came of it."""

    def __init__(self, leader: int, wake: int) -> None:
        self.leader = leader
        self.told_to_stop = False
        self.out_of_patience = False
        self.status: int | None = None  # the leader's, as `wait` tells it
        self.gone = False
        self._wake = wake
        self._poll = select.poll()
        self._poll.register(wake, select.POLLIN)
        self._poll.register(_STDIN, select.POLLIN)

    @property
    def leaderless(self) -> bool:
        return self.status is not None

    def wait(self, over: Callable[[], bool], limit_s: float | None = None) -> None:
        deadline = None if limit_s is None else time.monotonic() + limit_s
        while not over():
            left_s = None if deadline is None else deadline - time.monotonic()
            if left_s is not None and left_s <= 0:
                return
            self._listen(left_s)

    def _listen(self, limit_s: float | None) -> None:
        for descriptor, _ in self._poll.poll(None if limit_s is None else limit_s * 1000):
            if descriptor == _STDIN:
                self.told_to_stop = True
                self._hear()
            else:
                self.told_to_stop |= not _STOP_SIGNALS.isdisjoint(os.read(self._wake, 64))
        self._reap()

    def _hear(self) -> None:
        if os.read(_STDIN, 64):
            self.out_of_patience = True
        else:
            self._poll.unregister(_STDIN)  # end of file stays readable for ever

    def _reap(self) -> None:
        while not self.gone:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self.gone = True
                return
            if pid == 0:
                return
            if pid == self.leader:
                self.status = status


def keep(family: Family, stop_s: float) -> None:
    """Returns when the last descendant is gone."""
    family.wait(lambda: family.leaderless or family.told_to_stop)
    if not family.leaderless and not family.out_of_patience:
        # The leader alone: a server that has workers of its own wants to end them itself.
        os.kill(family.leader, signal.SIGTERM)
        family.wait(lambda: family.leaderless or family.out_of_patience, stop_s)
    if family.leaderless and not family.gone and not family.out_of_patience:
        _signal_all(signal.SIGTERM)
        family.wait(lambda: family.gone, _LEFTOVERS_S)
    while not family.gone:
        _signal_all(signal.SIGKILL)
        family.wait(lambda: family.gone, _KILL_AGAIN_S)


def _signal_all(number: signal.Signals) -> None:
    for pid in _descendants():
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _descendants() -> list[int]:
    """From a walk over all processes: the kernel's own list of children is not compiled in everywhere."""
    everybody = parents()
    family = [os.getpid()]
    for ancestor in family:  # grows while it is walked
        family.extend(pid for pid, parent in everybody if parent == ancestor)
    return family[1:]


def parents() -> list[tuple[int, int]]:
    """Every process that there is, zombies too, and its parent."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            status = (entry / "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        # pid (name) state parent …: the name may hold anything, so count from its closing bracket
        found.append((int(entry.name), int(status.rpartition(")")[2].split()[1])))
    return found


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) refused")


def _wake_on_signals() -> int:
    """A descriptor that becomes readable when a child ends or somebody asks for the end."""
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, *_STOP_SIGNALS):
        signal.signal(number, lambda *_: None)
    return readable


def _start(command: tuple[str, ...]) -> int:
    keeper = os.getpid()
    # A signal that came before the new process has forgotten the keeper's handlers would be swallowed by them.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    pid = os.fork()
    if pid == 0:
        _become(command, keeper)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
    return pid


def _become(command: tuple[str, ...], keeper: int) -> None:
    os.setsid()
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD, *_STOP_SIGNALS):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.dup2(os.open(os.devnull, os.O_RDONLY), _STDIN)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == keeper:
        try:
            os.execvp(command[0], command)  # noqa: S606 - the command is the supervisor's, no shell is wanted
        except OSError as error:
            os.write(sys.stderr.fileno(), f"{command[0]}: {error.strerror}\n".encode())
    os._exit(_NOT_STARTED)


def main(stop_s: str, descriptors: str, *command: str) -> int:
    """`descriptors`: comma-separated, held open until the end (a lock goes with the last of them), not handed on."""
    for descriptor in filter(None, descriptors.split(",")):
        os.set_inheritable(int(descriptor), False)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    wake = _wake_on_signals()
    family = Family(_start(command), wake)
    keep(family, float(stop_s))
    code = os.waitstatus_to_exitcode(family.status or 0)
    return code if code >= 0 else _KILLED - code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
