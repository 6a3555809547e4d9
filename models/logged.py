"""Which stored completions are a run's questions?  Those that a filter finds, as items with the answer that they had.

What was made to be compared or graded is left out: replays and evals would feed on themselves.  So is what was brought in from elsewhere,
as in the list of stored completions.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from models import ids, transcripts
from models.datasets import Item
from models.errors import InvalidRequest, TooLarge
from models.lifecycle import JobState
from models.listings import tells
from models.tables.jobs import Door, Job
from models.tables.transcripts import Turn
from models.wire.evals import ITEMS_MOST, StoredCompletions

_SLICE = 200
"""Paths walked in one statement."""
MOST_BYTES = 64 << 20
"""Of all together, as JSON: twice what a run reads of a file."""
_WHERE = "data_source.source"


def items(session: Session, account_id: str, wanted: StoredCompletions, meta: Mapping[str, str]) -> list[Item]:
    """Oldest first; with a limit, the newest of them.  `meta` is the eval's own filter.  Raises InvalidRequest, TooLarge."""
    limit = wanted.limit or ITEMS_MOST + 1
    where = _filters(account_id, wanted, {**meta, **(wanted.metadata or {})})
    facts = (Job.id, Job.model, Job.meta, Job.created_ms, Turn.prompt)  # all that was streamed would fill the memory
    rows = select(*facts).join(Turn, Turn.job_id == Job.id).where(*where)
    found = session.execute(rows.order_by(Job.id.desc()).limit(limit)).all()[::-1]
    if not found:
        raise InvalidRequest(f"{_WHERE}: no stored completion is like that", param=_WHERE)
    if len(found) > ITEMS_MOST:
        raise InvalidRequest(
            f"{_WHERE}.limit: more than {ITEMS_MOST:,} completions are like that; say how many of the newest to take",
            param=f"{_WHERE}.limit",
        )
    return list(_held(item for at in range(0, len(found), _SLICE) for item in _read(session, found[at : at + _SLICE])))


def _held(items: Iterable[Item]) -> Iterator[Item]:
    """All of them are in memory at once, so not more than fit there.  Raises TooLarge."""
    held_bytes = 0
    for each in items:
        held_bytes += len(orjson.dumps((each.item, each.given)))
        if held_bytes > MOST_BYTES:
            raise TooLarge(
                f"{_WHERE}.limit: these completions come to more than {MOST_BYTES:,} bytes; say how many of the newest to take",
                param=f"{_WHERE}.limit",
            )
        yield each


def _filters(account_id: str, wanted: StoredCompletions, meta: Mapping[str, str]) -> Iterator[ColumnElement[bool]]:
    yield Job.account_id == account_id
    yield Job.state == JobState.COMPLETED
    yield Job.store.is_(True)
    yield Job.deleted_ms.is_(None)
    yield Job.door.not_in((Door.REPLAY, Door.EVAL, Door.IMPORT))
    if wanted.model is not None:
        yield Job.model == wanted.model
    if wanted.created_after is not None:
        yield Job.created_ms >= wanted.created_after * 1000
    if wanted.created_before is not None:
        yield Job.created_ms < (wanted.created_before + 1) * 1000  # the second itself is meant, too
    for key, value in meta.items():
        yield tells(key, value)


def _read(session: Session, found: Sequence[Any]) -> Iterator[Item]:
    tree = transcripts.tree_above(session, [job.prompt for job in found])
    answers = transcripts.answers_of(session, [job.id for job in found])
    for job in found:
        choices: list[dict[str, Any]] = [
            {"index": n, "message": message, "finish_reason": answer.finish_reason}
            for n, (answer, message) in enumerate(answers[job.id])
        ]
        text = next((choice["message"].get("content") for choice in choices), None) or ""
        name = ids.completion_of(job.id)
        item = {
            "id": name,
            "model": job.model,
            "input": transcripts.path(tree, job.prompt),
            "output": text,
            "metadata": job.meta,
            "created_at": job.created_ms // 1000,
        }
        yield Item(item, {"model": job.model, "choices": choices}, name)
