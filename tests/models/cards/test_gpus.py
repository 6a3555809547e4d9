"""To which class of GPU does what a driver tells belong?"""

import pytest

from models.cards.gpus import CLASSES, Gpu, class_of


@pytest.mark.parametrize(("gpu", "of"), CLASSES.items())
def test_a_class_belongs_to_itself(gpu, of):
    assert class_of(of.title, of.memory_mib) is gpu
    assert class_of(f"nvidia {gpu.upper()}", round(of.memory_mib * 0.99)) is gpu


@pytest.mark.parametrize(
    ("name", "memory_mib", "gpu"),
    [
        ("NVIDIA L40S", 46068, Gpu.L40S),
        ("NVIDIA A100-SXM4-80GB", 81920, Gpu.A100),
        ("NVIDIA A100 80GB PCIe", 81920, Gpu.A100),
        ("NVIDIA H100 80GB HBM3", 81559, Gpu.H100),
        ("NVIDIA H100 NVL", 95830, Gpu.H100),
        ("NVIDIA H200", 143771, Gpu.H200),
        ("NVIDIA B200", 183359, Gpu.H200),
        ("NVIDIA RTX 6000 Ada Generation", 49140, Gpu.L40S),
        ("Some Card of Next Year", 90_000, Gpu.A100),
        ("NVIDIA A100-PCIE-40GB", 40960, None),
        ("NVIDIA GeForce RTX 4090", 24564, None),
        ("", 0, None),
    ],
)
def test_others_belong_to_the_largest_class_that_is_not_larger(name, memory_mib, gpu):
    assert class_of(name, memory_mib) is gpu
