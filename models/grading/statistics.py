"""Is one run better than another, or is it chance?  Means with intervals, paired differences, slices.

Intervals hold 95 %.  A score that is only ever 0 or 1 has Wilson's interval, which is honest at few items and at 0 and 100 %; others
have the percentile bootstrap's.  Runs are compared item by item: the difference's interval comes from bootstrapping the pairs, its
p-value from flipping the signs of the differences at random (all flips, where there are few).  Seeded: the same scores give the same
numbers.  Nothing is corrected for having looked at many slices; below `FEW` items a figure says so itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.grading.effort import go_on

FEW = 30
"""Below it, neither interval is to be leaned on."""
SEED = 20_261_120
RESAMPLES_MOST = 10_000
_RESAMPLES_LEAST = 1_000
_DRAWS = 4_000_000
"""Numbers drawn at most for one interval: beyond 400 items fewer resamples are taken, down to 1,000."""
_DRAWS_AT_ONCE = 2_000_000
"""16 MB of indices."""
_EXACT_PAIRS = 14
"""All 16,384 ways to flip so many signs are tried."""
_Z = 1.959963984540054
"""The normal distribution's 97.5th percentile."""
_TAILS = (2.5, 97.5)
_NEAR = 1e-12
_PLACES = 12

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    n: int
    mean: float | None
    """None: there was nothing to average."""
    low: float | None = None
    high: float | None = None
    """None: fewer than two values, or values that do not vary, from which no bootstrap learns anything."""
    method: str | None = None

    @property
    def few(self) -> bool:
        return self.n < FEW


@dataclass(frozen=True, slots=True)
class Paired:
    """The second run's score minus the first's, over items that both have."""

    n: int
    difference: float | None
    low: float | None
    high: float | None
    wins: int
    ties: int
    losses: int
    p_value: float | None
    """How often chance alone gives a difference as large; None without pairs."""
    exact: bool

    @property
    def few(self) -> bool:
        return self.n < FEW


def estimate(values: Sequence[float]) -> Estimate:
    go_on()  # an interval takes twenty milliseconds, and a report may have thousands
    found = np.asarray(values, dtype=np.float64)
    if not found.size:
        return Estimate(0, None)
    mean = float(found.mean())
    if bool(np.isin(found, (0.0, 1.0)).all()):
        return Estimate(found.size, mean, *_wilson(mean, found.size), method="wilson")
    bounds = _bootstrapped(found)
    return Estimate(found.size, mean, *bounds, method="bootstrap") if bounds else Estimate(found.size, mean)


def paired(first: Sequence[float], second: Sequence[float]) -> Paired:
    """Of scores that stand at the same places."""
    go_on()
    differences = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
    if not differences.size:
        return Paired(0, None, None, None, 0, 0, 0, None, exact=True)
    low, high = _bootstrapped(differences) or (None, None)
    wins, losses = int((differences > _NEAR).sum()), int((differences < -_NEAR).sum())
    p_value, exact = _flipped(differences[np.abs(differences) > _NEAR])
    ties = differences.size - wins - losses
    return Paired(differences.size, float(differences.mean()), low, high, wins, ties, losses, p_value, exact)


def quantiles(values: Sequence[float]) -> dict[str, float | None]:
    if not values:
        return dict.fromkeys(("mean", "p50", "p95"))
    found = np.asarray(values, dtype=np.float64)
    p50, p95 = np.percentile(found, (50, 95))
    return {"mean": float(found.mean()), "p50": float(p50), "p95": float(p95)}


def grouped(keys: Sequence[str], rows: Sequence[Any]) -> dict[str, list[Any]]:
    """Rows by the slice that each is in, the largest slice first."""
    found: dict[str, list[Any]] = {}
    for key, row in zip(keys, rows, strict=True):
        found.setdefault(key, []).append(row)
    return dict(sorted(found.items(), key=lambda pair: (-len(pair[1]), pair[0])))


def _wilson(share: float, n: int) -> tuple[float, float]:
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z * sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
    return max(0.0, round(middle - half, _PLACES)), min(1.0, round(middle + half, _PLACES))  # 0 is 0, and not 2e-18


def _bootstrapped(values: Numbers) -> tuple[float, float] | None:
    if values.size < 2 or float(np.ptp(values)) < _NEAR:  # noqa: PLR2004 -- one value does not vary
        return None
    drawing = np.random.default_rng(SEED)
    means = _in_parts(
        values.size, lambda count: values[drawing.integers(0, values.size, (count, values.size))].mean(axis=1)
    )
    low, high = np.percentile(means, _TAILS)
    return float(low), float(high)


def _flipped(differences: Numbers) -> tuple[float, bool]:
    """A two-sided p-value, and whether every flip was tried."""
    n = differences.size
    if not n:
        return 1.0, True
    seen = abs(float(differences.sum())) - _NEAR * n
    if n <= _EXACT_PAIRS:
        bits = (np.arange(1 << n)[:, None] >> np.arange(n)) & 1
        return float((np.abs((bits * 2 - 1) @ differences) >= seen).mean()), True
    drawing = np.random.default_rng(SEED)
    sums = _in_parts(n, lambda count: (drawing.integers(0, 2, (count, n), dtype=np.int8) * 2 - 1) @ differences)
    reached = int((np.abs(sums) >= seen).sum())
    return (reached + 1) / (sums.size + 1), False  # what was seen is one of the ways, so it is never 0


def _in_parts(n: int, draw: Callable[[int], Numbers]) -> Numbers:
    """Resamples in parts that fit in little memory."""
    left = max(_RESAMPLES_LEAST, min(RESAMPLES_MOST, _DRAWS // n))
    parts = []
    while left:
        count = min(left, max(1, _DRAWS_AT_ONCE // n))
        parts.append(draw(count))
        left -= count
    return np.concatenate(parts)
