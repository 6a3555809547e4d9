"""Which card does a caller's model name stand for, and does somebody serve it?

Look-ups in what this process knows of the workers (`api.fleet`).  Only a name for which nobody is found there costs a round trip:
a worker may have come within the last second.
"""

from api.deps import State
from models.cards.card import Card, resolve, stand_ins
from models.errors import NotFound, Unavailable


async def served(state: State, name: str | None) -> Card:
    """The card of that name, or one that stands in for it while nobody serves it.  Raises NotFound when there is none.

    Where nobody serves either, jobs may wait for it; who holds the line calls `staffed`.
    """
    if (card := _chosen(state, name)) is not None and card.id in state.fleet.view.live:
        return card
    await state.fleet.refresh()
    if (card := _chosen(state, name)) is None:
        raise NotFound(
            f"the model {name!r} does not exist; GET /v1/models lists what does", param="model", code="model_not_found"
        )
    return card


def staffed(state: State, card: Card) -> None:
    """Raises Unavailable while no worker serves the card."""
    if card.id not in state.fleet.view.live:
        raise Unavailable(
            f"no worker serves {card.id!r} at the moment; try again, or submit a job, which waits for one",
            param="model",
            code="no_worker",
        )


def known(state: State, name: str) -> Card | None:
    """A joined engine's card is in no catalogue, and answers first while it is served."""
    return state.fleet.view.names.get(name) or resolve(name)


def _chosen(state: State, name: str | None) -> Card | None:
    view = state.fleet.view
    if name is None:
        card: Card | None = state.own_card or view.first or state.spare_card
    else:
        card = known(state, name)
    if card is None or card.id in view.live:
        return card
    return next((other for other in stand_ins(name or card.id) if other.id in view.live), card)
