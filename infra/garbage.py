"""How does a process that serves streams keep Python's collector off their road?  Called once, when all is imported and opened.

What was made until then stays to the end, so collections need not look at it again; and they come after so many new objects that a token's
way seldom meets one.  Cycles are still found: nothing is switched off.
"""

import gc

_YOUNG = 20_000
"""New objects before a collection: a hundred tokens' worth, and a few megabytes, in place of CPython's 700."""


def settle() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 20, 20)
