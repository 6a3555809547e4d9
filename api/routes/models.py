"""GET /v1/models: which models are known, and which of them are served now, by how many workers."""

from datetime import UTC, datetime, time
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.answers import json_response
from api.deps import State, caller_of, state_of
from models.cards.card import Card
from models.errors import NotFound

router = APIRouter(prefix="/v1/models")


@router.get("", summary="List the models that the account may use, those that are served now first")
async def list_models(request: Request) -> Response:
    state, caller = state_of(request), await caller_of(request)
    await state.fleet.refresh()
    view = state.fleet.view
    allowed = [card for card in view.cards.values() if caller.may_use(card.id, card.id)]
    cards = sorted(allowed, key=lambda card: card.id not in view.live)
    return json_response({"object": "list", "data": [_view(state, card) for card in cards]})


@router.get("/{name:path}", summary="Retrieve a model")
async def retrieve_model(request: Request, name: str) -> Response:
    state, caller = state_of(request), await caller_of(request)
    await state.fleet.refresh()
    card = state.fleet.known(name)
    if card is None or not caller.may_use(card.id, name):
        raise NotFound(f"the model {name!r} does not exist", param="model", code="model_not_found")
    return json_response(_view(state, card))


def _view(state: State, card: Card) -> dict[str, Any]:
    workers = state.fleet.view.live.get(card.id, ())
    return {
        "id": card.id,
        "object": "model",
        "created": int(datetime.combine(card.launched, time(), UTC).timestamp()),
        "owned_by": card.owned_by,
        "description": card.description,
        "toy": card.toy,
        "served": bool(workers),
        "workers": len(workers),
        "capacity": sum(worker.capacity for worker in workers),
        "running": sum(worker.running for worker in workers),
        "system_fingerprints": sorted({worker.fingerprint for worker in workers if worker.fingerprint}),
        "aliases": list(card.aliases),
        "stands_in_for": list(card.stands_in_for),
        "weights": card.weights,
        "revision": card.revision,
        "context_length": card.context_tokens,
        "max_output_tokens": card.max_output_tokens,
        "modalities": list(card.modalities),
        "capabilities": list(card.capabilities),
        "sampling": card.sampling.model_dump(),
        "tool_calls": card.tool_calls,
        "pricing": {"currency": "USD", "per_tokens": 1_000_000, **card.prices.model_dump(mode="json")},
        "launched": card.launched.isoformat(),
        "retires": card.retires and card.retires.isoformat(),
        "successor": card.successor,
    }
