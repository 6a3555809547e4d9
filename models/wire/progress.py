"""How far is a batch, whatever its kind?  What events and webhooks tell of it; more is fetched under its id."""

from typing import Any

from models.tables.batches import Batch, BatchKind
from models.wire.replays import planned_of, status_of

_OBJECTS = {BatchKind.FILE: "batch", BatchKind.REPLAY: "replay", BatchKind.EVAL: "eval.run"}


def progress_view(batch: Batch) -> dict[str, Any]:
    """A replay says of itself what it says under its id: it is planned before its rows are made."""
    status, total = batch.state.value, batch.total
    if batch.kind is BatchKind.REPLAY:
        status, total = status_of(batch), planned_of(batch)
    return {
        "id": batch.id,
        "object": _OBJECTS[batch.kind],
        "status": status,
        "created_at": batch.created_ms // 1000,
        "request_counts": {"total": total, "completed": batch.completed, "failed": batch.failed},
        "metadata": batch.meta,
    }
