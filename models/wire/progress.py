"""How far is a batch, whatever its kind?  What events and webhooks tell of it; more is fetched under its id."""

from typing import Any

from models.tables.batches import Batch, BatchKind

_OBJECTS = {BatchKind.FILE: "batch", BatchKind.REPLAY: "replay", BatchKind.EVAL: "eval.run"}


def progress_view(batch: Batch) -> dict[str, Any]:
    return {
        "id": batch.id,
        "object": _OBJECTS[batch.kind],
        "status": batch.state,
        "created_at": batch.created_ms // 1000,
        "request_counts": {"total": batch.total, "completed": batch.completed, "failed": batch.failed},
        "metadata": batch.meta,
    }
