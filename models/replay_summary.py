"""What do a replay's turns come to?  Shares of verdicts, reasons counted, and how far times and costs have moved.

Added up from what is stored beside each turn; a turn that has not ended counts as pending.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from models.limits import MICROS_PER_CENT
from models.verdicts import Verdict, Why

_WORST = (Verdict.PENDING, Verdict.DIVERGED, Verdict.NOT_COMPARABLE, Verdict.IDENTICAL)
_MEASURED = ("latency_ms", "ttft_ms", "cost_micros", "completion_tokens", "cached_tokens")


@dataclass(slots=True)
class _Sums:
    """Of turns where both sides are known."""

    turns: int = 0
    source: float = 0
    target: float = 0


@dataclass(slots=True)
class Summary:
    planned: int
    counts: Counter[Verdict] = field(default_factory=Counter)
    comparable: Counter[Verdict] = field(default_factory=Counter)
    """Of the turns for which equality could be expected."""
    reasons: Counter[str] = field(default_factory=Counter)
    environments: Counter[str] = field(default_factory=Counter)
    """Answers by what made them, recorded and replayed."""
    calls: Counter[str] = field(default_factory=Counter)
    similarity: float = 0.0
    compared: int = 0
    sums: dict[str, _Sums] = field(default_factory=lambda: {name: _Sums() for name in _MEASURED})

    @classmethod
    def of(cls, planned: int, details: Iterable[Mapping[str, Any]], *, over: bool = False) -> "Summary":
        """`over`: no more turns will be asked, so those that were not have no answer."""
        summary = cls(planned)
        for detail in details:
            summary._add(detail)
        if over and (left := planned - summary.counts.total()):
            summary.counts[Verdict.NOT_COMPARABLE] += left
            summary.reasons[Why.NO_ANSWER.value] += left
        return summary

    def verdicts(self) -> dict[str, int]:
        told = {verdict.value: number for verdict, number in sorted(self.counts.items())}
        pending = self.planned - self.counts.total()
        return told | ({Verdict.PENDING.value: pending} if pending > 0 else {})

    def verdict(self) -> Verdict:
        """The worst of all."""
        there = {verdict for verdict in Verdict if self.verdicts().get(verdict)}
        return next((verdict for verdict in _WORST if verdict in there), Verdict.NOT_COMPARABLE)

    def told(self) -> dict[str, Any]:
        ended = self.counts.total()
        return {
            "turns": self.planned,
            "ended": ended,
            "shares": {verdict.value: round(number / ended, 6) for verdict, number in sorted(self.counts.items())},
            "comparable": {
                "turns": self.comparable.total(),
                "identical": self.comparable[Verdict.IDENTICAL],
                "diverged": self.comparable[Verdict.DIVERGED],
            },
            "reasons": dict(sorted(self.reasons.items())),
            "environments": dict(sorted(self.environments.items())),
            "similarity_mean": round(self.similarity / self.compared, 6) if self.compared else None,
            "same_tool_calls": dict(sorted(self.calls.items())),
            "latency_ms": self._means("latency_ms"),
            "ttft_ms": self._means("ttft_ms"),
            "completion_tokens": self._totals("completion_tokens"),
            "cached_tokens": self._totals("cached_tokens"),
            "cost_cents": self._totals("cost_micros", MICROS_PER_CENT),
        }

    def output(self) -> dict[str, Any]:
        """What a replay keeps of it when it has ended."""
        return {"verdict": self.verdict(), "verdicts": self.verdicts(), "summary": self.told()}

    def _add(self, detail: Mapping[str, Any]) -> None:
        judged = detail["judgement"]
        verdict = Verdict(judged["verdict"])
        self.counts[verdict] += 1
        self.comparable[verdict] += bool(judged["comparable"])
        self.reasons.update({str(reason["code"]) for reason in judged["reasons"]})
        if judged["similarity"] is not None:
            self.similarity, self.compared = self.similarity + judged["similarity"], self.compared + 1
        if judged["same_calls"] is not None:
            self.calls["equal" if judged["same_calls"] else "different"] += 1
        source, target = detail.get("source") or {}, detail.get("target") or {}
        self.environments.update(side["environment"] for side in (source, target) if side.get("environment"))
        for name, sums in self.sums.items():
            if (old := source.get(name)) is not None and (new := target.get(name)) is not None:
                sums.turns, sums.source, sums.target = sums.turns + 1, sums.source + old, sums.target + new

    def _means(self, name: str) -> dict[str, float] | None:
        sums = self.sums[name]
        return _moved(sums.source / sums.turns, sums.target / sums.turns, "mean") if sums.turns else None

    def _totals(self, name: str, unit: float = 1) -> dict[str, float] | None:
        sums = self.sums[name]
        return _moved(sums.source / unit, sums.target / unit, "total") if sums.turns else None


def _moved(source: float, target: float, what: str) -> dict[str, float]:
    return {
        f"source_{what}": round(source, 6),
        f"target_{what}": round(target, 6),
        "delta": round(target - source, 6),
    }
