"""Which card does a caller's model name stand for, and is it served here?"""

from api.deps import State
from models.cards.card import Card, resolve
from models.errors import NotFound


def served(state: State, name: str | None) -> Card:
    """The card a caller's model name stands for.  Raises NotFound when it is unknown, or known and not served here."""
    if name is None:
        return state.card
    card = known(state, name)
    if card is None:
        raise NotFound(
            f"the model {name!r} does not exist; GET /v1/models lists what does", param="model", code="model_not_found"
        )
    if card.id != state.card.id:
        raise NotFound(
            f"the model {name!r} is known but not served here; {state.card.id!r} is",
            param="model",
            code="model_not_found",
        )
    return card


def known(state: State, name: str) -> Card | None:
    """A joined engine's card is in no catalogue, and answers first."""
    return state.card if name in {state.card.id, *state.card.aliases} else resolve(name)
