"""When may a process that died start again?  After a growing pause; for ever, unless it never comes up or comes down at once.

Given up is what died `most` times within `within_s` (it keeps crashing), and what did not become ready `most` times in a row,
however long each start took (an engine needs minutes for one).  A death now and then, once a day or once in two minutes, never
adds up: each start that became ready begins the second count anew, and `healthy_s` of being ready the row of pauses.

Pure: the clock is handed in.
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
    """So many deaths within `within_s`, or starts in a row that failed, are too many."""
    within_s: float = 60.0


class Deaths:
    """Of one process."""

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self._times: deque[float] = deque(maxlen=policy.most)
        self._in_a_row = 0
        self._never_ready = 0

    def add(self, now: float, ready_s: float | None) -> float | None:
        """Seconds to wait before the next start, after a life that was ready for `ready_s` (None: never).

        None: no further start; `too_many` says which were too many.
        """
        policy = self._policy
        self._times.append(now)
        self._never_ready = self._never_ready + 1 if ready_s is None else 0
        if self.too_many:
            return None
        self._in_a_row = 1 if (ready_s or 0.0) >= policy.healthy_s else self._in_a_row + 1
        return policy.delays_s[min(self._in_a_row, len(policy.delays_s)) - 1]

    @property
    def too_many(self) -> str:
        """In words; empty while a further start is allowed."""
        policy = self._policy
        if len(self._times) == policy.most and self._times[-1] - self._times[0] <= policy.within_s:
            return f"died {policy.most} times within {policy.within_s:g} s"
        return f"failed to start {policy.most} times in a row" if self._never_ready >= policy.most else ""
