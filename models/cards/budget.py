"""What does a GPU hold besides a card's weights: how many tokens of KV cache, how many requests at once?

The arithmetic that the numbers in a card's flags stand on, and that SGLang 0.5.23 does when it starts (its
`arg_groups/memory_hook.py`, and `mem_cache/kv_cache_configurator.py`).  Computed, not measured: expect a few percent.
Relies on the card's architecture and flags alone; refuses a card that tells no architecture.
"""

from dataclasses import dataclass

from models.cards.card import Architecture, Card, Device, Flags, Vision, waiting_beside
from models.cards.gpus import CLASSES, Gpu
from models.errors import InvalidRequest

PLANNED_TOKENS = 4096
"""A running request's share of the cache: 3,000 tokens of prompt and 1,000 of answer.  Most chats are shorter, and what they
have in common is held once; longer ones take the place of several."""
MOST_RUNNING = 128
"""At 128 streams the 24B makes a token in 18 to 28 ms: as fast as one reads.  More would wait longer for each."""
_GRAPH_STEP = 8  # from 16 on, CUDA graphs are captured for every eighth batch size

_MIB = 1 << 20
_CUDA_CONTEXT_MIB = 512  # the driver's and the libraries', gone before the engine counts what is free
_IMAGE_CACHE_MIB = 100  # SGLANG_VLM_CACHE_SIZE_MB: embeddings of images that come again
_GIB_MIB = 1024

# SGLang's defaults by memory: below so many MiB, tokens of a prefill chunk, largest batch with a CUDA graph.
_DEFAULTS = (
    (20 * _GIB_MIB, 2048, 8),
    (35 * _GIB_MIB, 4096, 48),
    (60 * _GIB_MIB, 4096, 32),
    (160 * _GIB_MIB, 8192, 256),
)
_LARGEST_DEFAULTS = (16384, 512)
_CAPTURED_PREFILLS = (
    range(4, 33, 4),
    range(48, 257, 16),
    range(288, 513, 32),
    range(576, 1025, 64),
    range(1280, 4097, 256),
)
_LARGE_PREFILL_STEP = 512
_METADATA_MIB, _PARALLEL_MIB = 512, 128
_MIB_PER_PREFILL_TOKEN, _MIB_PER_DECODE_GRAPH, _MIB_PER_PREFILL_GRAPH = 1.5, 2, 8
_LARGE_GPU_MIB, _LARGE_GPU_RESERVE_MIB = 60 * _GIB_MIB, 10 * _GIB_MIB


@dataclass(frozen=True, slots=True)
class Memory:
    """How SGLang divides a GPU."""

    total_mib: int
    reserved_mib: int
    """For activations and CUDA graphs."""
    static_fraction: float
    """What weights and cache may take of the rest."""
    graph_batch: int
    """The largest decode batch that runs as a CUDA graph; above it each step is slower."""


@dataclass(frozen=True, slots=True)
class Budget:
    memory: Memory | None
    """None on a CPU, where the card says how large the cache is."""
    weights_bytes: int
    kv_bytes_per_token: int
    kv_tokens: int
    context_tokens: int
    running: int
    waiting: int

    @property
    def kv_bytes(self) -> int:
        return self.kv_tokens * self.kv_bytes_per_token

    @property
    def full_contexts(self) -> float:
        return self.kv_tokens / self.context_tokens

    @property
    def concurrency(self) -> int:
        return self.running + self.waiting

    @property
    def fits(self) -> bool:
        """Whether the longest request that the card promises can be served at all."""
        return self.kv_tokens >= self.context_tokens


def budget(card: Card, device: Device, gpu: Gpu | None = None, memory_mib: int = 0) -> Budget:
    """`memory_mib` is the machine's own; left out, the class's.  Raises InvalidRequest where nothing can be computed."""
    shape, flags = card.architecture, card.flags_on(device, gpu)
    if shape is None:
        raise InvalidRequest(f"the card of {card.id} tells no architecture", param="model")
    running = int(flags["max-running-requests"])
    memory = _memory(shape, flags, memory_mib or _class_memory_mib(gpu)) if device == "cuda" else None
    per_token = kv_bytes_per_token(shape, flags)
    return Budget(
        memory=memory,
        weights_bytes=shape.weights_bytes,
        kv_bytes_per_token=per_token,
        kv_tokens=_kv_bytes(shape, memory) // per_token if memory else int(flags["max-total-tokens"]),
        context_tokens=card.context_tokens,
        running=running,
        waiting=waiting_beside(running),
    )


def kv_bytes_per_token(shape: Architecture, flags: Flags) -> int:
    """A key and a value, of every KV head, in every layer."""
    element_bytes = 1 if str(flags.get("kv-cache-dtype", "")).startswith("fp8") else 2
    return 2 * shape.layers * shape.kv_heads * shape.head_dim * element_bytes


def running_for(kv_tokens: int) -> int:
    """The limit on running requests that a cache of this size justifies."""
    wanted = min(kv_tokens // PLANNED_TOKENS, MOST_RUNNING)
    return max(wanted // _GRAPH_STEP * _GRAPH_STEP, 1)


def _class_memory_mib(gpu: Gpu | None) -> int:
    if gpu is None:
        raise InvalidRequest(f"which GPU? one of {', '.join(Gpu)}", param="gpu")
    return CLASSES[gpu].memory_mib


def _memory(shape: Architecture, flags: Flags, total_mib: int) -> Memory:
    chunk, graph = _defaults(total_mib)
    chunk = int(flags.get("chunked-prefill-size", chunk))
    graph = min(int(flags.get("cuda-graph-max-bs-decode", graph)), int(flags["max-running-requests"]))
    reserved = _reserved_mib(total_mib, chunk, graph)
    fraction = round((total_mib - reserved) / total_mib, 3) * (_vision_share(shape.vision) if shape.vision else 1)
    return Memory(total_mib, reserved, float(flags.get("mem-fraction-static", fraction)), graph)


def _defaults(total_mib: int) -> tuple[int, int]:
    return next(((chunk, graph) for below, chunk, graph in _DEFAULTS if total_mib < below), _LARGEST_DEFAULTS)


def _reserved_mib(total_mib: int, chunk: int, graph: int) -> int:
    large = range(4608, chunk + 1, _LARGE_PREFILL_STEP)
    prefills = sum(1 for sizes in (*_CAPTURED_PREFILLS, large) for size in sizes if size <= chunk)
    graphs_mib = graph * _MIB_PER_DECODE_GRAPH + prefills * _MIB_PER_PREFILL_GRAPH
    reserved = _METADATA_MIB + _PARALLEL_MIB + int(chunk * _MIB_PER_PREFILL_TOKEN) + graphs_mib
    return max(reserved, _LARGE_GPU_RESERVE_MIB) if total_mib > _LARGE_GPU_MIB else reserved


def _vision_share(vision: Vision) -> float:
    """What SGLang leaves to weights and cache where images are read: a twentieth less, more for towers above ViT-L."""
    complexity = vision.layers * vision.hidden**2 / (24 * 1024**2)
    return 0.95 * max(0.8, min(1.05, 1 - 0.1 * (complexity - 1)))


def _kv_bytes(shape: Architecture, memory: Memory) -> int:
    static_mib = (memory.total_mib - _CUDA_CONTEXT_MIB) * memory.static_fraction
    taken = shape.weights_bytes + (_IMAGE_CACHE_MIB * _MIB if shape.vision else 0)
    return max(int(static_mib * _MIB) - taken, 0)
