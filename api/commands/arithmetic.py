"""How is a budget told: in words to people, in numbers to programs?"""

from typing import Any

from models.cards.budget import Budget, Memory

_GIB, _MIB, _KIB = 1 << 30, 1 << 20, 1 << 10


def in_words(budget: Budget) -> str:
    """What becomes of the memory, and how many jobs follow from it."""
    contexts = f"{budget.full_contexts:.1f} full contexts of {budget.context_tokens:,}"
    cache = f"{budget.kv_tokens:,} tokens at {_size(budget.kv_bytes_per_token)} each, {contexts}"
    if not budget.fits:
        cache += ": too few for the longest request that the card promises"
    jobs = f"{budget.running} requests run and {budget.waiting} wait, so a worker holds {budget.concurrency} jobs."
    if budget.memory is None:
        return f"The card limits the cache to {_size(budget.kv_bytes)}: {cache}.  {jobs}"
    return f"{_divided(budget.memory, budget)}: {cache}.  {jobs}"


def _divided(memory: Memory, budget: Budget) -> str:
    return (
        f"Of {_size(memory.total_mib * _MIB)}, {_size(memory.reserved_mib * _MIB)} are for activations and CUDA graphs "
        f"(batches up to {memory.graph_batch}); {memory.static_fraction:.1%} of what is free at the start are for weights and "
        f"cache.  {_size(budget.weights_bytes)} of weights leave {_size(budget.kv_bytes)}"
    )


def _size(count: int) -> str:
    for unit, name in ((_GIB, "GiB"), (_MIB, "MiB"), (_KIB, "KiB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}".replace(".0 ", " ")
    return f"{count} bytes"


def in_numbers(budget: Budget) -> dict[str, Any]:
    memory = budget.memory
    return {
        "gpu_memory_mib": memory and memory.total_mib,
        "reserved_mib": memory and memory.reserved_mib,
        "static_fraction": memory and round(memory.static_fraction, 5),
        "graph_batch": memory and memory.graph_batch,
        "weights_bytes": budget.weights_bytes,
        "kv_bytes": budget.kv_bytes,
        "kv_bytes_per_token": budget.kv_bytes_per_token,
        "kv_tokens": budget.kv_tokens,
        "full_contexts": round(budget.full_contexts, 2),
        "fits": budget.fits,
        "running": budget.running,
        "waiting": budget.waiting,
        "concurrency": budget.concurrency,
    }
