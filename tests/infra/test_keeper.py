"""Does a keeper, run by hand, pass on what it should and keep to itself what it should not?"""

import os
import signal
import subprocess
import sys
import time

import pytest

from infra import keeper

WITHIN_S = 20.0


def kept(script: str, *, stop_s: float = WITHIN_S, hold: tuple[int, ...] = ()) -> subprocess.Popen[str]:
    held = ",".join(str(descriptor) for descriptor in hold)
    command = (sys.executable, "-I", "-S", keeper.__file__, str(stop_s), held, "sh", "-c", script)
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, pass_fds=hold)


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -SEGV $$", 139), ("kill -KILL $$", 137)]
)
def test_its_status_is_that_of_its_child(script: str, status: int) -> None:
    with kept(script) as process:
        assert process.wait(WITHIN_S) == status


def test_it_ends_its_child_when_its_input_closes() -> None:
    with kept("echo up; exec sleep 600") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(WITHIN_S) == 128 + 15


@pytest.mark.parametrize("closed", [False, True], ids=["at once", "while it waits"])
def test_a_byte_on_its_input_is_the_end_of_its_patience(closed: bool) -> None:
    """Nobody is asked: who no longer answers would not hear it."""
    with kept("trap '' TERM; sh -c \"trap '' TERM; echo up; sleep 600\"; exit 3") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        if closed:
            process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        process.stdin.write("!")
        process.stdin.flush()
        assert process.wait(WITHIN_S) == 128 + 9
        assert time.monotonic() - began < WITHIN_S / 4
        assert process.stdout.read() == ""  # nobody is left to write


def test_orphans_are_waited_for_and_killed_when_they_do_not_go() -> None:
    deaf = "trap '' TERM; echo up; while :; do sleep 600; done"
    with kept(f'setsid sh -c "{deaf}" & read up < /dev/null; exec sleep 0.2') as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        assert process.wait(WITHIN_S) == 0
        assert process.stdout.read() == ""  # nobody is left to write


def test_what_it_holds_is_not_handed_on() -> None:
    readable, writable = os.pipe()
    with kept(f"ls /proc/$$/fd; test -e /proc/$PPID/fd/{writable}", hold=(writable,)) as process:
        os.close(writable)
        assert process.stdout is not None
        assert process.stdout.read().split() == ["0", "1", "2"]
        assert process.wait(WITHIN_S) == 0
    assert os.read(readable, 1) == b""  # and it is let go in the end
    os.close(readable)
