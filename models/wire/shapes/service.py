"""How do webhooks, models and the process's own state look?"""

from typing import Literal

from models.cards.card import Sampling
from models.tables.webhooks import DeliveryState
from models.wire.shapes import JobId, Seconds, Shape
from models.wire.shapes.records import Job


class DeliveryAttempt(Shape):
    number: int
    started_at: Seconds
    duration_ms: int | None
    status: int | None
    error: str | None
    response_excerpt: str | None


class WebhookDelivery(Shape):
    id: str
    object: Literal["webhook.delivery"]
    event_id: str
    type: str
    job_id: JobId | None
    batch_id: str | None
    """Of a batch, a replay or an eval's run, where it was not a job that ended."""
    url: str
    state: DeliveryState
    attempts_made: int
    attempts_most: int
    next_attempt_at: Seconds | None
    created_at: Seconds
    attempts: list[DeliveryAttempt]


class WebhookSecret(Shape):
    secret: str
    previous_secret: str | None
    """Signs too, for a day after a rotation."""


class RotatedSecret(Shape):
    secret: str
    previous_valid_for_s: int


class JobEvent(Shape):
    """What your server is sent; `data` leaves `result` out where the body would pass 64 KiB, and `result_url` has it."""

    id: str
    object: Literal["event"]
    type: str
    created_at: Seconds
    timestamp: str
    data: Job


class Pricing(Shape):
    currency: Literal["USD"]
    per_tokens: int
    prompt: str
    completion: str


class Model(Shape):
    id: str
    object: Literal["model"]
    created: Seconds
    owned_by: str
    description: str
    toy: bool
    served: bool
    """By a worker that is there now."""
    workers: int
    capacity: int
    running: int
    system_fingerprints: list[str]
    """Of the workers that are there now."""
    aliases: list[str]
    stands_in_for: list[str]
    """Names that it answers to while nobody serves theirs."""
    weights: str
    revision: str
    context_length: int
    max_output_tokens: int
    modalities: list[str]
    capabilities: list[str]
    sampling: Sampling
    tool_calls: str
    pricing: Pricing
    launched: str
    retires: str | None
    successor: str | None


class ModelList(Shape):
    object: Literal["list"]
    data: list[Model]


class Health(Shape):
    status: Literal["ok"]


class Readiness(Shape):
    database: bool
    redis: bool
