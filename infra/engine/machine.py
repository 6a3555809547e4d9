"""Which processor does this machine compute with?  Two kinds round differently, so answers name theirs."""

import platform
from functools import cache
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_NAMES = ("model name", "Model", "Hardware")  # x86, Arm boards


@cache
def cpu(cpuinfo: Path = _CPUINFO) -> str:
    """The processor's name as the kernel tells it, else its architecture."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    told = dict(map(_pair, lines))
    return next((told[name] for name in _NAMES if told.get(name)), platform.machine())


def _pair(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip(), value.strip()
