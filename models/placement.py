"""Which queue does a job go to?  Decided here and nowhere else.

For now every job goes to its card's shared queue, which any worker of that card serves.
"""


def queue_for(card_id: str) -> str:
    return f"chat.{card_id}"
