"""Are a child's lines told, kept and bounded, and can nothing that happens to the terminal hold the child up?"""

import os
import subprocess
import time
from pathlib import Path

import pytest

from infra import child_output
from infra.child_output import Aloud, Logged, output_of

WITHIN_S = 20.0


def says(output: Aloud, script: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(["sh", "-c", script], stdout=output.descriptor, stderr=output.descriptor)
    output.started()
    return process


def told(readable: int) -> bytes:
    pieces = []
    while piece := os.read(readable, 1 << 16):
        pieces.append(piece)
    os.close(readable)
    return b"".join(pieces)


def test_each_line_bears_the_childs_name_also_the_unended_last() -> None:
    readable, writable = os.pipe()
    output = Aloud("engine", writable)
    assert says(output, "echo one; echo two >&2; printf three").wait(WITHIN_S) == 0
    assert output.finish() == ("one", "two", "three")
    os.close(writable)
    assert told(readable) == b"  engine  one\n  engine  two\n  engine  three\n"


def test_a_line_is_told_while_the_child_lives() -> None:
    readable, writable = os.pipe()
    output = Aloud("engine", writable)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=output.descriptor) as process:
        output.started()
        assert process.stdin is not None
        process.stdin.write(b"whole\nhal")
        process.stdin.flush()
        assert os.read(readable, 1 << 10) == b"  engine  whole\n"
        process.stdin.write(b"f\n")
    assert output.finish() == ("whole", "half")
    os.close(writable)
    assert told(readable) == b"  engine  half\n"


@pytest.mark.parametrize("gone", [True, False], ids=["gone", "stuck"])
def test_a_terminal_that_does_not_read_holds_nobody_up(gone: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_output, "_LAST_WORDS_S", 0.2)
    readable, writable = os.pipe()
    if gone:
        os.close(readable)
    output = Aloud("engine", writable)
    assert says(output, "seq 100000; echo last").wait(WITHIN_S) == 0
    began = time.monotonic()
    assert output.finish()[-1] == "last"
    assert time.monotonic() - began < WITHIN_S / 2
    if not gone:
        os.set_blocking(readable, False)  # let the thread go
        while output._thread.is_alive():
            try:
                os.read(readable, 1 << 20)
            except BlockingIOError:
                output._thread.join(0.01)
        os.close(readable)
    output._thread.join(WITHIN_S)
    os.close(writable)


def test_what_was_told_is_given_back_and_the_end_is_kept() -> None:
    sink = os.open(os.devnull, os.O_WRONLY)
    output = Aloud("engine", sink)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=output.descriptor) as process:
        output.started()
        assert process.stdin is not None
        process.stdin.write(b"".join(b"%099d\n" % number for number in range(100_000)))
        process.stdin.flush()
        give_up = time.monotonic() + WITHIN_S
        while output._told < 10_000_000 and time.monotonic() < give_up:
            output._over.wait(0.01)
        held = os.fstat(output._file)
    assert held.st_size == 10_000_000
    assert held.st_blocks * 512 < 1 << 20
    lines = output.finish()
    assert (len(lines), lines[-1]) == (400, f"{99_999:099d}")
    os.close(sink)


def test_who_is_far_behind_misses_lines_and_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_output, "_BEHIND_BYTES", 1 << 20)
    readable, writable = os.pipe()
    output = Aloud("engine", writable)
    descriptor = output.descriptor
    assert descriptor is not None
    os.write(descriptor, b"".join(b"%09d\n" % number for number in range(400_000)))
    output.started()
    seen = b""
    while b"000399999" not in seen:
        seen += os.read(readable, 1 << 16)
    output.finish()
    assert b"lines are left out" in seen
    assert len(seen) < 1 << 20
    os.close(readable)
    os.close(writable)


def test_a_log_is_appended_to_and_only_this_lifes_lines_are_its_last(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "one.log"
    path.parent.mkdir()
    path.write_text("of an earlier life\n")
    output = output_of("one", path, aloud=False)
    assert isinstance(output, Logged)
    assert output.descriptor is not None
    os.write(output.descriptor, b"of this one\n")
    output.started()
    assert output.descriptor is None
    assert output.finish() == ("of this one",)
    assert path.read_text() == "of an earlier life\nof this one\n"


def test_without_either_it_writes_where_this_process_writes() -> None:
    output = output_of("one", None, aloud=False)
    assert output.descriptor is None
    output.started()
    assert output.finish() == ()
