"""How does a process that serves streams keep Python's collector off their road?  Called once, when all is imported and opened.

What was made until then stays to the end, so collections need not look at it again: a whole one over all that is imported takes longer than
a hundred tokens' way (docs/benchmarks.md has the figures with and without).  Cycles are still found: nothing is switched off.
"""

import gc

_YOUNG = 20_000
"""New objects before a collection, in place of CPython's 700; what they hold until then is some megabytes at most."""


def settle() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 20, 20)
