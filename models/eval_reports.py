"""How do runs of an eval look side by side?  From their graded items, as they are shown, to the figures of `models.grading.results`.

A run may have asked gigabytes; its answers, which are what a report is made of, are read one by one, and nothing else is held.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from models import eval_items
from models.evals import Run
from models.wire.eval_views import item_view, run_view

if TYPE_CHECKING:
    from models.grading import results


def answered(session: Session, run: Run) -> "results.Run":
    """A run, as a report wants it."""
    from models.grading import output_items  # noqa: PLC0415 -- numpy, for whoever compares

    items = eval_items.graded_each(session, run.row.id)
    return output_items.run_of(run_view(run, (), ""), (item_view(run, item) for item in items))


def report(title: str, runs: Sequence["results.Run"], *, created_at: int, slices: Sequence[str] = ()) -> dict[str, Any]:
    """The first run is what the others are held against; `created_at` in Unix seconds."""
    from models.grading import results  # noqa: PLC0415 -- numpy, for whoever compares

    names = Counter(each.name for each in runs)
    named = [each if names[each.name] == 1 else replace(each, name=f"{each.name} ({each.id})") for each in runs]
    return results.report_of(title, named, created_at=created_at, slices=slices)
