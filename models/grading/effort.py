"""What may it take to grade an item, or to check what was sent?  Limits on all that is done for it together: on time, and on what is made.

What a schema, a pattern or an expression may cost is counted in steps; an eval may hold a thousand of them.  The time is the thread's own,
so a busy machine makes no difference.  Nothing is interrupted: what loops asks `go_on`, what makes messages asks `make_room`.
"""

import math
import time
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import ParamSpec, TypeVar

from models.errors import TooLarge

ITEM_S = 3.0
"""For an item's graders together; most need milliseconds, METEOR of long texts a second."""
CHECK_S = 5.0
"""For what one request sends to be checked; 20,000 items take a second with a schema of twenty keywords."""

_P = ParamSpec("_P")
_T = TypeVar("_T")
_current: ContextVar["Effort | None"] = ContextVar("effort", default=None)


class Effort:
    """For one item, or one request; entered in one thread after another, never in two."""

    def __init__(self, seconds: float = math.inf, characters: float = math.inf) -> None:
        self._left_s, self._left = seconds, characters
        self._characters = characters

    def __enter__(self) -> None:
        self._until = time.thread_time() + self._left_s
        self._held: Token[Effort | None] = _current.set(self)

    def __exit__(self, *_: object) -> None:
        self._left_s = self._until - time.thread_time()
        _current.reset(self._held)

    def spend(self, step: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        with self:
            return step(*args, **kwargs)

    def check_time(self) -> None:
        if time.thread_time() > self._until:
            raise TooLarge("it takes too long")

    def take(self, characters: int) -> None:
        self._left -= characters
        if self._left < 0:
            raise TooLarge(f"rendered messages come to more than {self._characters:,} characters together")


def go_on() -> None:
    """Raises TooLarge when the time is over."""
    effort = _current.get()
    if effort is not None:
        effort.check_time()


def make_room(characters: int) -> None:
    """Raises TooLarge when so many are more than may be made."""
    effort = _current.get()
    if effort is not None:
        effort.take(characters)
