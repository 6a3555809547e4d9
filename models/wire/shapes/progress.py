"""How does the progress of a batch, a replay or an eval's run look?"""

from typing import Literal

from models.wire.chat import Metadata
from models.wire.shapes import Seconds, Shape


class Counts(Shape):
    total: int
    completed: int
    failed: int


class Progress(Shape):
    """The `data` of each event."""

    id: str
    object: Literal["batch", "replay", "eval.run"]
    status: Literal[
        "validating", "in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled"
    ]
    created_at: Seconds
    request_counts: Counts
    metadata: Metadata


class ProgressEvent(Shape):
    """What your server is sent when a batch, a replay or an eval's run has ended; its `id` fetches the rest."""

    id: str
    object: Literal["event"]
    type: str
    created_at: Seconds
    timestamp: str
    data: Progress
