"""The processor is named as the kernel names it, and by its architecture where the kernel is silent."""

import platform

from infra.engine import machine


def test_the_kernels_name_is_taken(tmp_path):
    told = tmp_path / "cpuinfo"
    told.write_text("processor\t: 0\nmodel name\t: Some CPU @ 2: GHz\nflags\t\t: fpu\n", encoding="utf-8")
    assert machine.cpu(told) == "Some CPU @ 2: GHz"


def test_without_one_there_is_the_architecture(tmp_path):
    assert machine.cpu(tmp_path / "none") == platform.machine()
    silent = tmp_path / "cpuinfo"
    silent.write_text("processor\t: 0\nmodel name\t:\n\n", encoding="utf-8")
    assert machine.cpu(silent) == platform.machine()
