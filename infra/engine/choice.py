"""Which model is served here?  The card that is named, what a joined engine says of itself, or what this machine can serve."""

from infra.engine.joined import card_of
from infra.engine.server import default_card, device
from models.cards.card import Card, named


async def served_card(*, model: str, engine_url: str, engine_model: str) -> Card:
    """Raises InvalidRequest for a name no card has, Unavailable where a joined engine does not answer."""
    if model:
        return named(model)
    if engine_url:
        return await card_of(engine_url, engine_model)
    return default_card(device())
