"""How is a figure written down?  As rows for `docs/benchmarks.md`, under a line that says when and on what they were taken.

The line tells of the machine's other work, too: times from a busy machine are not for keeping.
"""

import os
import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

_BUSY = 0.5
"""Runnable processes a core before we have begun."""


def taken(*parts: str) -> str:
    """`2026-11-20, Linux x86_64, 2 cores, Python 3.11.7, …`, and a warning where others use the machine."""
    cores, load = os.cpu_count() or 1, os.getloadavg()[0]
    day = datetime.now(UTC).date().isoformat()
    about = (day, f"{platform.system()} {platform.machine()}", f"{cores} cores", f"Python {platform.python_version()}")
    busy = (f"BUSY MACHINE (load {load:.1f} before the start): do not keep",) if load > _BUSY * cores else ()
    return ", ".join((*about, *parts, *busy))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = (columns, ["---"] * len(columns), *rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
