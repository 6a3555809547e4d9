"""Which GPU does this machine have, as its driver tells?

Asks `nvidia-smi`, which takes a fraction of a second; importing PyTorch would take several.  Relies on nothing else.  What it cannot
learn (no driver, a driver that hangs, a line that says `[N/A]`) counts as not known, never as an error: then flags for GPUs in
general are used, and SGLang reports what is wrong with the driver in its own words.
"""

import re
import subprocess
from dataclasses import dataclass

from models.cards.gpus import Gpu, class_of

_ASK = ("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits")
_ASK_S = 20.0  # without its persistence daemon a driver is loaded anew for each question
_LINE = re.compile(r"^(?P<name>.+?),\s*(?P<memory>\d+)(?:\.\d+)?(?:\s*MiB)?\s*$")


@dataclass(frozen=True, slots=True)
class Installed:
    name: str
    memory_mib: int

    @property
    def kind(self) -> Gpu | None:
        """The class whose flags fit; None for a GPU smaller than all of them."""
        return class_of(self.name, self.memory_mib)


def installed() -> Installed | None:
    """The smallest of this machine's GPUs, as SGLang plans for it too; None where the driver tells of none."""
    try:
        told = subprocess.run(
            _ASK,
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_ASK_S,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return smallest(told.stdout) if told.returncode == 0 else None


def smallest(lines: str) -> Installed | None:
    """A GPU a line: its name, which may hold commas, and its memory in MiB."""
    found = (_LINE.match(line) for line in lines.splitlines())
    gpus = [Installed(match["name"].strip(), int(match["memory"])) for match in found if match]
    return min(gpus, key=lambda gpu: gpu.memory_mib, default=None)
