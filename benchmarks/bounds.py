"""How fast could a GPU run the 24B at the very best?  `python benchmarks/bounds.py` prints it, to judge measured figures by.

Whatever the engine does, a step reads all weights and every stream's keys and values once, and multiplies each token by all
weights; the longer of the two is the least a step can take.  Bandwidth and speed are the makers' data sheets', which no program
reaches: 0.9 of the bandwidth in a plain copy and half of the speed in int4 kernels are good.  Attention's own arithmetic,
activations and the scheduler are left out, so a figure above these is a wrong figure.  Memory is the cards' business (`tram engine plan`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.report import table
from benchmarks.shape import MISTRAL_SMALL_24B, Shape
from models.cards.gpus import CLASSES, Gpu

CONTEXT_TOKENS = 2700
"""A stream's, halfway through its answer, in `benchmarks/gpu.py`."""
STREAMS = (1, 16, 64, 128)


@dataclass(frozen=True, slots=True)
class Speed:
    bytes_per_s: float
    flop_per_s: float
    """Dense, in 16 bits."""


SPEEDS: Mapping[Gpu, Speed] = {
    Gpu.L40S: Speed(0.864e12, 362e12),
    Gpu.A100: Speed(2.039e12, 312e12),
    Gpu.H100: Speed(3.35e12, 989e12),
    Gpu.H200: Speed(4.8e12, 989e12),
}


def step_s(shape: Shape, speed: Speed, streams: int) -> float:
    """The least that one token for each of the streams can take."""
    read = shape.read_bytes + streams * CONTEXT_TOKENS * shape.kv_bytes
    return max(read / speed.bytes_per_s, streams * shape.flop / speed.flop_per_s)


def row(shape: Shape, gpu: Gpu, streams: Sequence[int]) -> list[str]:
    speed = SPEEDS[gpu]
    steps = [(count, step_s(shape, speed, count)) for count in streams]
    decode = [f"{step * 1000:.1f} ms, {count / step:,.0f}" for count, step in steps]
    return [CLASSES[gpu].title, *decode, f"{speed.flop_per_s / shape.flop:,.0f}"]


def main() -> None:
    columns = ("GPU", *(f"{count} streams: a step, tokens/s" for count in STREAMS), "prefill, tokens/s")
    print(table(columns, [row(MISTRAL_SMALL_24B, gpu, STREAMS) for gpu in SPEEDS]))


if __name__ == "__main__":
    main()
