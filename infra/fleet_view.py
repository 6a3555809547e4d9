"""What does this process know of the workers, and which card does a model's name stand for?  A view, read anew every second.

`view` is what every request looks into.  Nobody is refused by an old one: whoever finds no worker there calls `refresh`, which
returns with a view read after the call.  While Redis is away the last view stands, and when Redis comes back having lost
everything, it stands until each worker has had the time to announce itself again.  Only a name for which nobody is found in the view
costs a round trip: a worker may have come within the last second.
"""

import asyncio
import logging
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from redis.asyncio import Redis

from infra import fleet
from infra.fleet import Told, Worker
from infra.redis import FAULTS
from infra.room import Room
from models.cards.card import Card, catalogue, resolve, stand_ins
from models.errors import NotFound, Unavailable
from models.placement import queues_of

REFRESH_S = 1.0
BOUND_S = 1.5
"""Redis answers within a millisecond, or is away."""
DOUBT_S = 6.0
"""Two renewals of a worker's."""

_NEVER = b""
"""Stands for a mark before the first look.  One that is not there then may be lost without a trace until it is."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class View:
    live: Mapping[str, Sequence[Worker]] = field(default_factory=dict)
    """Workers by the id of the card they serve: the catalogue's cards first, in its order."""
    cards: Mapping[str, Card] = field(default_factory=dict)
    """By id: the catalogue's, and those in no catalogue that joined engines served within the last week."""
    names: Mapping[str, Card] = field(default_factory=dict)
    """What callers may call the latter, where the catalogue does not mean another card, or only they are served."""
    first: Card | None = None
    """For callers that name no model: the first that is served, else that was."""

    @property
    def workers(self) -> list[Worker]:
        return [worker for workers in self.live.values() for worker in workers]


class Fleet:
    def __init__(
        self, redis: "Redis", own: Card | None = None, spare: Card | None = None, *, patient: bool = False
    ) -> None:
        """For callers that name no model: `own` is the operator's choice, `spare` is for when nobody has ever served any.

        `patient`: who asks can wait, so that nothing is said of what only workers know before they have had the time to announce
        themselves.  Redis may have come up empty with us, and a joined engine's model would seem not to exist.
        """
        self._redis, self._own, self._spare = redis, own, spare
        self._early_until_s = math.inf if patient else 0.0
        self.view = view_of((), {})
        self._served: dict[str, Card] = {}
        self._room = Room()
        self._mark: bytes | None = _NEVER
        self._doubt_until_s = 0.0
        self._begun_s = 0.0
        self._away = False
        self._turn = asyncio.Lock()
        self._following: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await self.refresh()
        self._following = asyncio.create_task(self._follow())

    async def close(self) -> None:
        if self._following is not None:
            self._following.cancel()
            with suppress(asyncio.CancelledError):
                await self._following

    async def refresh(self) -> None:
        """Reads the view, once for all who wait for it; without Redis it stays as it is."""
        came_s = time.monotonic()
        async with self._turn:
            if self._begun_s >= came_s:
                return
            self._begun_s = time.monotonic()
            try:
                async with asyncio.timeout(BOUND_S):
                    self._take(await fleet.read(self._redis, self._queues()))
                self._away = False
            except FAULTS as error:
                if not self._away:
                    log.warning("Redis is away: what is known of the workers stays as it is: %s", error)
                self._away = True

    async def card(self, name: str | None) -> Card:
        """The card of that name, or one that stands in for it while nobody serves it.  Raises NotFound when there is none.

        Where nobody serves either, jobs may wait for it; for who holds the line there is `require_worker`.  A patient view raises
        Unavailable while it cannot know.
        """
        if (card := self._chosen(name)) is not None and card.id in self.view.live:
            return card
        await self.refresh()
        card = self._chosen(name)
        if self._told_by_workers(name, card) and time.monotonic() < self._early_until_s:
            raise Unavailable("workers have not had the time yet to say what they serve", param="model")
        if card is None:
            raise NotFound(
                f"the model {name!r} does not exist; GET /v1/models lists what does",
                param="model",
                code="model_not_found",
            )
        return card

    def require_worker(self, card: Card) -> None:
        """Raises Unavailable while no worker serves the card."""
        if card.id not in self.view.live:
            raise Unavailable(
                f"no worker serves {card.id!r} at the moment; try again, or submit a job, which waits for one",
                param="model",
                code="no_worker",
            )

    def require_room(self, card_id: str, queue: str, most: int) -> None:
        """Raises QueueFull while so many wait that go first; while Redis is away that is not known, and nobody is refused."""
        if not self._away:
            self._room.require(card_id, queue, most)

    def known(self, name: str) -> Card | None:
        """A joined engine's card is in no catalogue, and answers first while it is served."""
        return self.view.names.get(name) or resolve(name)

    def _chosen(self, name: str | None) -> Card | None:
        card = (self._own or self.view.first or self._spare) if name is None else self.known(name)
        if card is None or card.id in self.view.live:
            return card
        return next((other for other in stand_ins(name or card.id) if other.id in self.view.live), card)

    def _told_by_workers(self, name: str | None, card: Card | None) -> bool:
        """Whether only they can say which card is meant, and none has."""
        return card is None or (name is None and self._own is None and self.view.first is None)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            await self.refresh()

    def _queues(self) -> list[str]:
        return [queue for card_id in {**catalogue(), **self._served} for queue in queues_of(card_id)]

    def _take(self, told: Told) -> None:
        now_s = time.monotonic()
        if self._mark != told.mark and not (self._mark == _NEVER and told.mark):
            self._doubt_until_s = now_s + DOUBT_S
        self._mark = told.mark
        if told.workers or told.cards:
            self._early_until_s = min(self._early_until_s, now_s + DOUBT_S)
        before = {worker.name: worker for worker in self.view.workers if now_s < self._doubt_until_s}
        self._served |= {card.id: card for card in told.cards}
        self._room.note(told.waiting, told.workers, now_s)
        self.view = view_of({**before, **{worker.name: worker for worker in told.workers}}.values(), self._served)


def view_of(workers: Iterable[Worker], served: Mapping[str, Card]) -> View:
    """`served`: now or lately, by id."""
    places = {card_id: place for place, card_id in enumerate((*catalogue(), *sorted(served.keys() - catalogue())))}
    live: dict[str, list[Worker]] = {}
    for worker in sorted(workers, key=lambda worker: (places.get(worker.card, len(places)), worker.name)):
        if worker.card in served:
            live.setdefault(worker.card, []).append(worker)
    joined = [served[card_id] for card_id in places if card_id not in catalogue()]
    names: dict[str, Card] = {}
    for card in sorted(joined, key=lambda card: card.id in live):  # of two, the one that is served has the last word
        names |= {name: card for name in _names(card) if card.id in live or resolve(name) is None}
    first = next((served[card_id] for card_id in (*live, *places) if card_id in served), None)
    return View(live, {**catalogue(), **{card.id: card for card in joined}}, names, first)


def _names(card: Card) -> set[str]:
    spelled = {card.id, *card.aliases}
    return spelled | {name.replace("/", "-") for name in spelled}
