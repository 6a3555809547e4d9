"""Is there room in a model's queue, and if not, when will there be?  Answered from what was seen last, without asking anybody.

`infra.fleet_view` looks every second, so a queue takes a second's worth more than it should.  Only those count that go before the
job: a crowd of batches' rows keeps no chat out.  When there will be room is told by how many jobs the workers have ended within the
last minute.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from infra.fleet import Worker
from models.errors import QueueFull
from models.limits import RETRY_MOST_S
from models.placement import queues_of

WINDOW_S = 60.0
_LEAST_S = 1.0
"""What is known is as old as that."""


@dataclass(slots=True)
class Room:
    _waiting: Mapping[str, int] = field(default_factory=dict)
    _looks: deque[tuple[float, dict[str, Worker]]] = field(default_factory=deque)

    def note(self, waiting: Mapping[str, int], workers: Iterable[Worker], now_s: float) -> None:
        """A look: jobs waiting by queue, and who is there."""
        self._waiting = waiting
        self._looks.append((now_s, {worker.name: worker for worker in workers}))
        while now_s - self._looks[0][0] > WINDOW_S:
            self._looks.popleft()

    def require(self, card_id: str, queue: str, most: int) -> None:
        """Raises QueueFull where `most` go first."""
        queues = queues_of(card_id)
        ahead = sum(self._waiting.get(name, 0) for name in queues[: queues.index(queue) + 1])
        if ahead < most:
            return
        wait_s = self._wait_s(card_id, ahead - most + 1)
        raise QueueFull(
            f"{ahead:,} jobs wait for {card_id!r}, as many as may; try again in {wait_s:.0f} s", retry_after_s=wait_s
        )

    def _wait_s(self, card_id: str, jobs: int) -> float:
        per_s = sum(self._ended_per_s(worker) for worker in self._looks[-1][1].values() if worker.card == card_id)
        return RETRY_MOST_S if not per_s else min(max(_LEAST_S, jobs / per_s), RETRY_MOST_S)

    def _ended_per_s(self, worker: Worker) -> float:
        now_s = self._looks[-1][0]
        then_s, before = next((at_s, seen[worker.name]) for at_s, seen in self._looks if worker.name in seen)
        return (worker.totals.jobs - before.totals.jobs) / (now_s - then_s) if now_s > then_s else 0.0
