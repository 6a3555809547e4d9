"""Which queue does a job go to?  Decided here and nowhere else.

A card has one queue a service tier, which any worker of that card serves, the more urgent first: SGLang refuses priorities beside
`lpm`, so who goes first is settled before the engine.  What tier a job asks for is OpenAI's `service_tier`.
"""

from enum import StrEnum


class Tier(StrEnum):
    """In the order of service."""

    PRIORITY = "priority"
    """Before everybody else."""
    DEFAULT = "default"
    FLEX = "flex"
    """When nobody else waits: batches, replays, whatever has time."""


def queue_for(card_id: str, tier: Tier = Tier.DEFAULT) -> str:
    return f"chat.{card_id}" if tier is Tier.DEFAULT else f"chat.{card_id}.{tier}"


def queues_of(card_id: str) -> list[str]:
    """The queues a worker of the card takes from, the first that holds something first."""
    return [queue_for(card_id, tier) for tier in Tier]
