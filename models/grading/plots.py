"""Where do a report's marks stand?  Places on an axis, in percent of its width, so that a plot fits any screen.

Pure arithmetic over the figures of `models.grading.results`; how marks look is the template's business.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import Any

_TICKS_MOST = 6
_NICE = (1.0, 2.0, 2.5, 5.0, 10.0)
_EDGE = 2.0
"""Percent left free at both ends, so that marks and numbers at the ends are whole."""


@dataclass(frozen=True, slots=True)
class Axis:
    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Percent of the width."""
        share = (value - self.low) / (self.high - self.low)
        return round(_EDGE + (100 - 2 * _EDGE) * min(1.0, max(0.0, share)), 3)


@dataclass(frozen=True, slots=True)
class Mark:
    """One row: a point or a bar's end, and the interval around it; None: nothing is known."""

    label: str
    point: float | None
    low: float | None
    high: float | None
    told: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plot:
    title: str
    axis: Axis
    rows: tuple[Mark, ...]


def axis_of(values: Iterable[float | None], *, zero: bool = True, even: bool = False, unit: bool = False) -> Axis:
    """`even`: as far to the left of 0 as to the right; `unit`: at least from 0 to 1."""
    known = [each for each in values if each is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    if even:
        high = max(abs(low), abs(high))
        low = -high
    low, high = (min(low, 0.0), max(high, 0.0)) if zero else (low, high)
    high = max(high, 1.0) if unit else high
    if low == high:
        low, high = (-1.0, 1.0) if even else (low, low + 1.0)
    step = _step((high - low) / _TICKS_MOST)
    low, high = floor(low / step + 1e-9) * step, ceil(high / step - 1e-9) * step
    ticks = tuple(round(low + step * number, 12) for number in range(round((high - low) / step) + 1))
    return Axis(low, high, ticks)


def _step(least: float) -> float:
    size: float = 10.0 ** floor(log10(least))
    return next(nice * size for nice in _NICE if nice * size >= least * (1 - 1e-9))


def scores(report: Mapping[str, Any]) -> list[Plot]:
    """A plot a grader, a row a run."""
    return [
        _interval_plot(grader, [(run["name"], run["scores"][grader]) for run in report["runs"]])
        for grader in report["graders"]
    ]


def differences(report: Mapping[str, Any]) -> list[Plot]:
    """A plot for each run that is compared, a row a grader."""
    plots = []
    for name in dict.fromkeys(each["run"] for each in report["comparisons"]):
        rows = [each for each in report["comparisons"] if each["run"] == name]
        axis = axis_of([each[key] for each in rows for key in ("difference", "low", "high")], even=True)
        marks = tuple(_mark(axis, each["grader"], each, "difference") for each in rows)
        plots.append(Plot(f"{name} against {rows[0]['baseline']}", axis, marks))
    return plots


def slices(report: Mapping[str, Any]) -> dict[str, list[Plot]]:
    """By the field that divides: a plot a grader, a row for each value and run."""
    found: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for row in report["slices"]:
        found.setdefault(row["slice"], {}).setdefault(row["grader"], []).append(row)
    return {
        path: [_interval_plot(grader, _by_value(rows)) for grader, rows in graders.items()]
        for path, graders in found.items()
    }


def amounts(report: Mapping[str, Any]) -> list[Plot]:
    """How long answers took and what they cost, a row a run."""
    latency = [(run["name"], {"mean": each["p50"], "high": each["p95"]} | each) for run, each in _latencies(report)]
    cost = [(run["name"], {"amount": run["cost_usd"]}) for run in report["runs"] if run["cost_usd"] is not None]
    tokens = [(run["name"], {"amount": run["completion_tokens"]}) for run in report["runs"]]
    plots = [
        _amount_plot("Latency: median, and up to the 95th percentile, in ms", latency, "p50"),
        _amount_plot("Cost of all answers, in USD", cost, "amount"),
        _amount_plot("Tokens written", tokens, "amount"),
    ]
    return [plot for plot in plots if plot.rows]


def _latencies(report: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], dict[str, Any]]]:
    return [(run, run["latency_ms"]) for run in report["runs"] if run["latency_ms"]["p50"] is not None]


def _by_value(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """Runs beside one another, values in the order of their size."""
    order = {value: place for place, value in enumerate(dict.fromkeys(row["value"] for row in rows))}
    ordered = sorted(rows, key=lambda row: order[row["value"]])
    return [(f"{row['value']} · {row['run']}", row) for row in ordered]


def _interval_plot(title: str, rows: Sequence[tuple[str, Mapping[str, Any]]]) -> Plot:
    axis = axis_of([row[key] for _, row in rows for key in ("mean", "low", "high")], unit=True)
    return Plot(title, axis, tuple(_mark(axis, label, row, "mean") for label, row in rows))


def _amount_plot(title: str, rows: Sequence[tuple[str, Mapping[str, Any]]], key: str) -> Plot:
    axis = axis_of([row.get(name) for _, row in rows for name in (key, "high")])
    return Plot(title, axis, tuple(_mark(axis, label, row, key) for label, row in rows))


def _mark(axis: Axis, label: str, row: Mapping[str, Any], key: str) -> Mark:
    point, low, high = (None if row.get(name) is None else axis.at(float(row[name])) for name in (key, "low", "high"))
    return Mark(label, point, low, high, row)
