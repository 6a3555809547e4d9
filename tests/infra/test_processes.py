"""Does the supervisor start, watch, restart and stop real processes, and leave none behind?"""

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from infra import keeper
from infra.processes import Child, ChildFailed, Event, Step, Supervisor
from infra.restarts import RestartPolicy

WITHIN_S = 20.0
AT_ONCE = RestartPolicy(delays_s=(0.0,), most=3)
LASTS = "exec sleep 600"
IGNORES_TERM = "trap '' TERM; while :; do sleep 600; done"


class Told:
    """What the supervisor reported, and a way to wait for it: every event is waited for once."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._unseen: list[Event] = []
        self._more = asyncio.Event()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self._unseen.append(event)
        self._more.set()

    async def until(self, child: str, step: Step) -> Event:
        async with asyncio.timeout(WITHIN_S):
            while not (found := [event for event in self._unseen if (event.child, event.step) == (child, step)]):
                self._more.clear()
                await self._more.wait()
        self._unseen.remove(found[0])
        return found[0]

    def steps(self) -> list[tuple[str, Step]]:
        return [(event.child, event.step) for event in self.events]


class Stage:
    """Children are shell scripts; each writes its process number to a file, which makes it ready."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def child(self, name: str, script: str = LASTS, **fields: object) -> Child:
        script = f"echo $$ > {self.path / name}; {script}"
        plain = Child(name, ("sh", "-c", script), {}, self.wrote(name), start_s=WITHIN_S, stop_s=WITHIN_S)
        return replace(plain, **{"log": self.path / f"{name}.log", **fields})  # type: ignore[arg-type]

    def wrote(self, *names: str) -> Callable[[], asyncio.Future[bool]]:
        async def ready() -> bool:
            return all((self.path / name).exists() and (self.path / name).read_text().endswith("\n") for name in names)

        return ready  # type: ignore[return-value]

    def pid(self, name: str) -> int:
        return int((self.path / name).read_text())

    def kill(self, name: str) -> None:
        pid = self.pid(name)
        (self.path / name).unlink()  # the next life has to write it again
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@asynccontextmanager
async def running(*children: Child, policy: RestartPolicy | None = None) -> AsyncIterator[Told]:
    told, stop = Told(), asyncio.Event()
    run = asyncio.create_task(Supervisor(children, told, policy=policy).run(stop))
    try:
        yield told
    finally:
        stop.set()
        await asyncio.wait_for(run, WITHIN_S)


async def supervised(*children: Child, policy: RestartPolicy | None = None) -> None:
    """For runs that end by themselves."""
    await asyncio.wait_for(Supervisor(children, Told(), policy=policy).run(asyncio.Event()), WITHIN_S)


def gone(pid: int, within_s: float = 0.0) -> bool:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], within_s)[0])
    finally:
        os.close(descriptor)


def parent(pid: int) -> int:
    return dict(keeper.parents())[pid]


def open_files(pid: int) -> dict[str, Path]:
    return {entry.name: entry.readlink() for entry in Path(f"/proc/{pid}/fd").iterdir()}


def own_children() -> set[int]:
    """Zombies too."""
    return {pid for pid, parent_pid in keeper.parents() if parent_pid == os.getpid()}


async def test_each_starts_when_its_needs_are_ready_and_stops_before_them(stage: Stage) -> None:
    children = (
        stage.child("api", needs=("worker", "redis")),
        stage.child("worker", needs=("redis",)),
        stage.child("redis"),
    )
    async with running(*children) as told:
        ready = await told.until("api", Step.READY)
    assert ready.seconds > 0
    order = ["redis", "worker", "api"]
    up = [(name, step) for name in order for step in (Step.STARTING, Step.READY)]
    down = [(name, step) for name in reversed(order) for step in (Step.STOPPING, Step.STOPPED)]
    assert told.steps() == up + down
    assert {event.detail for event in told.events if event.step is Step.STOPPED} == {"was killed by SIGTERM"}


async def test_those_that_do_not_need_each_other_start_together(stage: Stage) -> None:
    both = stage.wrote("left", "right")
    async with running(stage.child("left", ready=both), stage.child("right", ready=both)) as told:
        await told.until("left", Step.READY)


async def test_no_process_is_left_when_it_returns(stage: Stage) -> None:
    before = own_children()
    async with running(stage.child("one"), stage.child("two")) as told:
        await told.until("one", Step.READY)
        await told.until("two", Step.READY)
        assert len(own_children() - before) == 2
    assert own_children() == before
    assert gone(stage.pid("one"))
    assert gone(stage.pid("two"))


async def test_a_stop_does_not_wait_for_a_child_to_become_ready(stage: Stage) -> None:
    never = stage.child("slow", ready=stage.wrote("nothing"))
    async with running(never, stage.child("later", needs=("slow",))) as told:
        await told.until("slow", Step.STARTING)
    assert ("later", Step.STARTING) not in told.steps()
    assert told.steps()[-1] == ("slow", Step.STOPPED)


async def test_cancelling_the_run_stops_the_children(stage: Stage) -> None:
    told = Told()
    run = asyncio.create_task(Supervisor([stage.child("one")], told).run(asyncio.Event()))
    await told.until("one", Step.READY)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(run, WITHIN_S)
    assert gone(stage.pid("one"))


async def test_one_that_ignores_sigterm_is_killed_when_its_time_is_up(stage: Stage) -> None:
    async with running(stage.child("deaf", IGNORES_TERM, stop_s=0.3)) as told:
        await told.until("deaf", Step.READY)
    stopped = told.events[-1]
    assert (stopped.step, stopped.detail) == (Step.STOPPED, "was killed by SIGKILL")
    assert 0.3 <= stopped.seconds < 5
    assert gone(stage.pid("deaf"))


async def test_only_the_leader_is_asked_to_stop_so_that_it_can_end_its_own(stage: Stage) -> None:
    script = (
        f"sh -c \"trap 'echo asked > {stage.path}/asked' TERM; echo \\$\\$ > {stage.path}/below; sleep 600 & wait; wait\" & "
        f"trap 'kill -9 $!; wait; exit 5' TERM; while :; do wait; done"
    )
    async with running(stage.child("leader", script, ready=stage.wrote("leader", "below"))) as told:
        await told.until("leader", Step.READY)
    assert told.events[-1].detail == "exited with status 5"
    assert not (stage.path / "asked").exists()


async def test_grandchildren_go_too_even_from_sessions_of_their_own(stage: Stage) -> None:
    write = f"echo \\$\\$ > {stage.path}"
    script = (
        f'setsid sh -c "{write}/far; {LASTS}" & sh -c "{write}/deaf; {IGNORES_TERM.replace(chr(39) * 2, chr(39) * 2)}" & '
        f'setsid setsid --fork sh -c "{write}/orphan; {LASTS}" & {LASTS}'
    )
    below = ("far", "deaf", "orphan")
    async with running(stage.child("leader", script, ready=stage.wrote("leader", *below))) as told:
        await told.until("leader", Step.READY)
        assert len({os.getsid(stage.pid(name)) for name in ("leader", "far", "orphan")}) == 3
    assert [name for name in ("leader", *below) if not gone(stage.pid(name))] == []


async def test_a_dead_leader_takes_its_family_along_before_it_starts_again(stage: Stage) -> None:
    script = f'sh -c "echo \\$\\$ > {stage.path}/below; {IGNORES_TERM}" & {LASTS}'
    child = stage.child("leader", script, ready=stage.wrote("leader", "below"))
    async with running(child, policy=AT_ONCE) as told:
        await told.until("leader", Step.READY)
        first = stage.pid("below")
        (stage.path / "below").unlink()
        stage.kill("leader")
        await told.until("leader", Step.RESTARTING)
        assert gone(first)
        await told.until("leader", Step.READY)
        assert stage.pid("below") != first


async def test_one_that_dies_after_it_was_ready_starts_again(stage: Stage) -> None:
    policy = RestartPolicy(delays_s=(0.05, 0.1), most=3)
    async with running(stage.child("one"), policy=policy) as told:
        await told.until("one", Step.READY)
        stage.kill("one")
        died = await told.until("one", Step.DIED)
        await told.until("one", Step.READY)
        stage.kill("one")
        await told.until("one", Step.READY)
        assert not gone(stage.pid("one"))
    assert died.detail == "was killed by SIGKILL"
    assert [event.seconds for event in told.events if event.step is Step.RESTARTING] == [0.05, 0.1]


async def test_one_that_died_starts_again_only_when_its_needs_are_ready_again(stage: Stage) -> None:
    gate = stage.path / "gate"
    gate.write_text("open\n")
    redis = stage.child("redis", ready=stage.wrote("redis", "gate"))
    async with running(redis, stage.child("api", needs=("redis",)), policy=AT_ONCE) as told:
        await told.until("api", Step.READY)
        gate.unlink()
        stage.kill("redis")
        await told.until("redis", Step.RESTARTING)
        stage.kill("api")
        await told.until("api", Step.RESTARTING)
        gate.write_text("open\n")
        await told.until("api", Step.READY)
    assert told.steps()[-7:-3] == [
        ("redis", Step.READY),
        ("api", Step.STARTING),
        ("api", Step.READY),
        ("api", Step.STOPPING),
    ]


async def test_one_that_keeps_dying_is_given_up_and_the_others_stopped(stage: Stage) -> None:
    told = Told()
    supervisor = Supervisor([stage.child("well"), stage.child("sick", needs=("well",))], told, policy=AT_ONCE)
    run = asyncio.create_task(supervisor.run(asyncio.Event()))
    for _ in range(AT_ONCE.most):
        await told.until("sick", Step.READY)
        stage.kill("sick")
    with pytest.raises(ChildFailed, match="sick died 3 times within 60 s; the last time it was killed by SIGKILL"):
        await asyncio.wait_for(run, WITHIN_S)
    assert gone(stage.pid("well"))


async def test_one_that_dies_before_it_is_ready_says_why(stage: Stage) -> None:
    log = stage.path / "broken.log"
    log.write_text("of an earlier run\n")
    broken = stage.child("broken", "echo one; echo two >&2; exit 3", ready=stage.wrote("nothing"), needs=("well",))
    with pytest.raises(ChildFailed) as failed:
        await supervised(stage.child("well"), broken)
    assert failed.value.message == f"broken exited with status 3; its log is {log}"
    assert failed.value.last_lines == ("one", "two")
    assert gone(stage.pid("well"))


async def test_only_the_end_of_a_long_log_is_told(stage: Stage) -> None:
    broken = stage.child("broken", "seq 100000; exit 1", ready=stage.wrote("nothing"))
    with pytest.raises(ChildFailed) as failed:
        await supervised(broken)
    assert failed.value.last_lines == tuple(str(number) for number in range(99_981, 100_001))


async def test_one_that_is_not_ready_in_time_fails(stage: Stage) -> None:
    late = stage.child("late", ready=stage.wrote("nothing"), start_s=2.5)
    with pytest.raises(ChildFailed, match=r"late was not ready after 2\.5 s"):
        await supervised(late)
    assert gone(stage.pid("late"))


async def test_a_program_that_is_not_there_is_named(stage: Stage) -> None:
    absent = replace(stage.child("absent"), argv=("no-such-program",), ready=stage.wrote("nothing"))
    with pytest.raises(ChildFailed, match="absent exited with status 127") as failed:
        await supervised(absent)
    assert failed.value.last_lines == ("no-such-program: No such file or directory",)


async def test_a_refused_connection_is_not_ready_but_another_error_ends_the_run(stage: Stage) -> None:
    answers = iter([ConnectionRefusedError(), TimeoutError(), ZeroDivisionError()])

    started = stage.wrote("one")

    async def probe() -> bool:
        if await started():
            raise next(answers)
        return False

    with pytest.raises(ZeroDivisionError):
        await supervised(stage.child("one", ready=probe))
    assert gone(stage.pid("one"))


async def test_variables_are_added_or_taken_away(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAYS", "1")
    monkeypatch.setenv("GOES", "2")
    script = f"env > {stage.path}/seen; {LASTS}"
    child = stage.child(
        "one", script, variables={"COMES": "3", "GOES": None, "EMPTY": ""}, ready=stage.wrote("one", "seen")
    )
    async with running(child) as told:
        await told.until("one", Step.READY)
    seen = set((stage.path / "seen").read_text().splitlines())
    assert {"STAYS=1", "COMES=3", "EMPTY="} <= seen
    assert not any(line.startswith("GOES=") for line in seen)


async def test_a_child_has_a_session_of_its_own_and_no_input(stage: Stage) -> None:
    async with running(stage.child("one")) as told:
        await told.until("one", Step.READY)
        pid = stage.pid("one")
        assert os.getsid(pid) == pid
        assert os.getsid(parent(pid)) == parent(pid)
        log = stage.path / "one.log"
        assert open_files(pid) == {"0": Path("/dev/null"), "1": log, "2": log}


async def test_a_killed_keeper_takes_its_child_along(stage: Stage) -> None:
    async with running(stage.child("one"), policy=AT_ONCE) as told:
        await told.until("one", Step.READY)
        pid = stage.pid("one")
        os.kill(parent(pid), signal.SIGKILL)
        assert (await told.until("one", Step.DIED)).detail == "was killed by SIGKILL"
        assert await asyncio.to_thread(gone, pid, WITHIN_S)


async def test_a_keeper_told_to_stop_stops_its_child(stage: Stage) -> None:
    async with running(stage.child("one"), policy=AT_ONCE) as told:
        await told.until("one", Step.READY)
        os.kill(parent(stage.pid("one")), signal.SIGTERM)
        assert (await told.until("one", Step.DIED)).detail == "was killed by SIGTERM"


SUPERVISES = """
import asyncio
from pathlib import Path
from infra import keeper
from infra.processes import Child, Step, Supervisor

def child(name, script, *files):
    async def ready():
        return all(Path(file).exists() for file in files)
    return Child(name, ("sh", "-c", script), {}, ready, start_s=20, stop_s=0.3)

def report(event):
    if event.step is Step.READY:
        print("ready", event.child, flush=True)

asyncio.run(Supervisor([child(*fields) for fields in CHILDREN], report).run(asyncio.Event()))
"""


def test_a_supervisor_killed_outright_leaves_nothing(stage: Stage) -> None:
    deaf, leader, far = (str(stage.path / name) for name in ("deaf", "leader", "far"))
    below = f"setsid sh -c 'echo $$ > {far}.part; mv {far}.part {far}; {LASTS}'"
    children = [
        ("deaf", f"echo $$ > {deaf}.part; mv {deaf}.part {deaf}; {IGNORES_TERM}", deaf),
        ("family", f"echo $$ > {leader}; {below} & {LASTS}", far),
    ]
    source = SUPERVISES.replace("CHILDREN", repr(children))
    with subprocess.Popen((sys.executable, "-c", source), stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        assert {supervisor.stdout.readline() for _ in children} == {"ready deaf\n", "ready family\n"}
        supervisor.kill()
        pids = [stage.pid(name) for name in ("deaf", "far", "leader")]
        # Its output ends when the last process that inherited it is gone.
        assert supervisor.stdout.read() == ""
    assert [pid for pid in pids if not gone(pid, WITHIN_S)] == []


def test_needs_must_be_among_the_children(stage: Stage) -> None:
    with pytest.raises(ValueError, match="needed, but not among the children: redis"):
        Supervisor([stage.child("api", needs=("redis",))], Told())


def test_needs_in_a_circle_are_refused(stage: Stage) -> None:
    with pytest.raises(ValueError, match="cycle"):
        Supervisor([stage.child("a", needs=("b",)), stage.child("b", needs=("a",))], Told())


def complaining(*complaints: str, done: Callable[[], object]) -> Callable[[], Awaitable[str]]:
    """Says each once; then that all is well, after `done`."""
    left = iter(complaints)

    async def alive() -> str:
        if complaint := next(left, None):
            return complaint
        if complaint is None:
            done()
        return ""

    return alive


async def test_one_that_stays_unwell_is_killed_without_patience_and_starts_again(stage: Stage) -> None:
    ready = stage.wrote("deaf")

    async def alive() -> str:
        if await ready():
            first.append(stage.pid("deaf"))
            (stage.path / "deaf").unlink()  # the next life has to write it again
        return "no token"

    first: list[int] = []
    deaf = stage.child("deaf", IGNORES_TERM, ready=ready, alive=alive, unwell_s=0.6)
    async with running(deaf, policy=RestartPolicy(delays_s=(0.0,), most=99)) as told:
        await told.until("deaf", Step.READY)
        died = await told.until("deaf", Step.DIED)
        assert gone(first[0])
        await told.until("deaf", Step.READY)
        await told.until("deaf", Step.DIED)
        assert len(set(first)) == 2
    assert died.detail.startswith("was killed: no token, for ")
    assert 0.6 <= died.seconds < WITHIN_S / 2


async def test_a_complaint_that_passes_is_forgotten(stage: Stage) -> None:
    twice = asyncio.Event()
    alive = complaining(*["no token"] * 9, "", *["no token"] * 9, done=twice.set)
    async with running(stage.child("one", alive=alive, unwell_s=1.2)) as told:
        await asyncio.wait_for(twice.wait(), WITHIN_S)
    assert Step.DIED not in {event.step for event in told.events}


async def test_one_that_does_not_answer_is_unwell(stage: Stage) -> None:
    async def alive() -> str:
        raise ConnectionRefusedError

    async with running(stage.child("one", alive=alive, unwell_s=0.1), policy=AT_ONCE) as told:
        died = await told.until("one", Step.DIED)
        assert died.detail.startswith("was killed: it did not answer (ConnectionRefusedError), for ")
        await told.until("one", Step.READY)


async def test_a_mistake_in_a_probe_ends_the_run(stage: Stage) -> None:
    async def alive() -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await supervised(stage.child("one", alive=alive, unwell_s=0.1))
    assert gone(stage.pid("one"))


async def test_a_failure_to_start_is_explained_from_its_last_lines(stage: Stage) -> None:
    def explain(lines: object, how: str) -> str:
        return f"{how!r} after {lines!r}"

    broken = stage.child("broken", "echo one; echo two; exit 3", ready=stage.wrote("nothing"), explain=explain)
    with pytest.raises(ChildFailed) as failed:
        await supervised(broken)
    assert failed.value.how == "exited with status 3: 'exited with status 3' after ('one', 'two')"


async def test_one_that_speaks_aloud_is_explained_too(stage: Stage, capfd: pytest.CaptureFixture[str]) -> None:
    script = "seq 3; echo Alas >&2; exit 3"
    broken = stage.child("broken", script, ready=stage.wrote("nothing"), log=None, aloud=True, explain=lambda *_: "")
    with pytest.raises(ChildFailed) as failed:
        await supervised(broken)
    assert failed.value.message == "broken exited with status 3"
    assert failed.value.last_lines == ("1", "2", "3", "Alas")
    assert capfd.readouterr().out == "".join(f"  broken  {line}\n" for line in failed.value.last_lines)


async def test_one_that_fails_to_start_again_and_again_is_given_up(stage: Stage) -> None:
    """However long each start takes: that it was ready once is no reason to try for ever."""
    gate = stage.path / "gate"
    gate.write_text("open\n")
    once = stage.child("once", ready=stage.wrote("once", "gate"), start_s=0.3)
    told = Told()
    policy = RestartPolicy(delays_s=(0.0,), most=3, within_s=0.5)
    run = asyncio.create_task(Supervisor([once], told, policy=policy).run(asyncio.Event()))
    await told.until("once", Step.READY)
    gate.unlink()
    stage.kill("once")
    with pytest.raises(ChildFailed, match=r"failed to start 3 times in a row; the last time it was not ready after"):
        await asyncio.wait_for(run, WITHIN_S)
