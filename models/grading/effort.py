"""How long may it take to grade an item, or to check what was sent?  A limit on the time of all that is done for it together.

What a schema, a pattern or an expression may cost is counted in steps; an eval may hold a thousand of them.  The time is the thread's own,
so a busy machine makes no difference.  Nothing is interrupted: what loops asks `go_on`.
"""

import math
import time
from contextvars import ContextVar, Token

from models.errors import TooLarge

ITEM_S = 3.0
"""For an item's graders together; most need milliseconds, METEOR of long texts a second."""

_until: ContextVar[float] = ContextVar("until", default=math.inf)


class Effort:
    """Of one item, or one request; entered in one thread after another, never in two."""

    def __init__(self, seconds: float) -> None:
        self._left_s = seconds

    def __enter__(self) -> None:
        self._held: Token[float] = _until.set(time.thread_time() + self._left_s)

    def __exit__(self, *_: object) -> None:
        self._left_s = _until.get() - time.thread_time()
        _until.reset(self._held)


def go_on() -> None:
    """Raises TooLarge when the time is over."""
    if time.thread_time() > _until.get():
        raise TooLarge("it takes too long")
