"""When may a process that died start again?  After a growing pause, and not for ever.

Pure: the clock is handed in.  A process that stayed well for a while starts its row of pauses anew.
"""

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    delays_s: tuple[float, ...] = (0.5, 1, 2, 5, 10)
    """Before the first, second, … restart in a row; the last one repeats."""
    healthy_s: float = 60.0
    """Ready for so long starts the row anew."""
    most: int = 5
    """So many deaths within `within_s` are too many."""
    within_s: float = 60.0


class Deaths:
    """Of one process."""

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self._times: deque[float] = deque(maxlen=policy.most)
        self._in_a_row = 0

    def add(self, now: float, ready_s: float) -> float | None:
        """Seconds to wait before the next start, after a life that was ready for `ready_s`; None: no further start."""
        policy = self._policy
        self._times.append(now)
        if len(self._times) == policy.most and now - self._times[0] <= policy.within_s:
            return None
        self._in_a_row = 1 if ready_s >= policy.healthy_s else self._in_a_row + 1
        return policy.delays_s[min(self._in_a_row, len(policy.delays_s)) - 1]
