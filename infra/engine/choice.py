"""Which model is served here?  The card that is named, what a joined engine says of itself, or what this machine can serve."""

from infra.engine.joined import card_of
from infra.engine.server import default_card, device
from models.cards.card import Card, catalogue, resolve
from models.errors import InvalidRequest


async def served_card(*, model: str, engine_url: str, engine_model: str) -> Card:
    """Raises InvalidRequest for a name no card has, Unavailable where a joined engine does not answer."""
    if model:
        return named_card(model)
    if engine_url:
        return await card_of(engine_url, engine_model)
    return default_card(device())


def named_card(model: str) -> Card:
    card = resolve(model)
    if card is None:
        raise InvalidRequest(f"no card is called {model!r}; there are {', '.join(catalogue())}", param="TRAM_MODEL")
    return card
