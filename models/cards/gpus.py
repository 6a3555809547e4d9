"""Which GPUs are a card's flags written for, and to which of these classes does the GPU of a machine belong?

A class stands for what decides about flags: the memory, and whether there is arithmetic in FP8.  Relies on the name and the memory
that the driver tells.  Refuses to guess upwards: a GPU counts as the largest class that is not larger than itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Gpu(StrEnum):
    L40S = "l40s"
    A100 = "a100"
    H100 = "h100"
    H200 = "h200"


@dataclass(frozen=True, slots=True)
class GpuClass:
    title: str
    memory_mib: int
    """As `nvidia-smi` tells it; what is sold as 48 GB has less, since error correction takes its share."""


CLASSES: Mapping[Gpu, GpuClass] = MappingProxyType(
    {
        Gpu.L40S: GpuClass("L40S 48 GB", 46_068),
        Gpu.A100: GpuClass("A100 80 GB", 81_920),
        Gpu.H100: GpuClass("H100 80 GB", 81_559),
        Gpu.H200: GpuClass("H200 141 GB", 143_771),
    }
)
_ALIKE = 0.98  # drivers and boards of one class differ by a percent


def class_of(name: str, memory_mib: int) -> Gpu | None:
    """None for a GPU smaller than all: flags for no class in particular, and SGLang's own judgement, have to do."""
    held = [gpu for gpu, of in CLASSES.items() if memory_mib >= of.memory_mib * _ALIKE]
    if not held:
        return None
    return max(held, key=lambda gpu: (gpu.value in name.lower(), CLASSES[gpu].memory_mib))
