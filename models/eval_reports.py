"""How do runs of an eval look side by side?  From their graded items, as they are shown, to the figures of `models.grading.results`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from models.evals import Run
from models.tables.evals import EvalItem
from models.wire.eval_views import item_view, run_view


def report(
    title: str, runs: Sequence[tuple[Run, Sequence[EvalItem]]], *, created_at: int, slices: Sequence[str] = ()
) -> dict[str, Any]:
    """The first run is what the others are held against; `created_at` in Unix seconds."""
    from models.grading import output_items, results  # noqa: PLC0415 -- numpy, for whoever compares

    told = [output_items.run_of(run_view(run, (), ""), [item_view(run, item) for item in items]) for run, items in runs]
    names = Counter(each.name for each in told)
    named = [each if names[each.name] == 1 else replace(each, name=f"{each.name} ({each.id})") for each in told]
    return results.report_of(title, named, created_at=created_at, slices=slices)
