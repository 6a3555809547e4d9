"""What is a replay's own, among batches?  Its rows are recorded turns, and each answer is judged beside the one it repeats.

A live conversation grows as it goes: the row of a turn follows from the answer to the one before it.  Verdicts are settled when a turn
ends and kept beside its row; the token at which two answers part is read from their results, which may lie in the object store.
"""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy.orm import Session

from infra.clock import now_ms
from infra.results import result_by_id
from models import batches, replayed, replays, token_places
from models.batches import Settled
from models.replay_summary import Summary
from models.replayed import Considered
from models.tables.batches import Batch, BatchRow, BatchState
from models.tables.jobs import Door, Job
from models.verdicts import Judgement, judge
from models.wire.replays import History, planned_of
from workers.batch import Effect, Feeder


class Replays:
    door = Door.REPLAY

    async def prepare(self, feeder: Feeder, batch: Batch) -> None:
        await feeder.database.write(partial(_made, batch=batch))

    async def requests(self, feeder: Feeder, batch: Batch, rows: Sequence[BatchRow]) -> Mapping[int, dict[str, Any]]:
        return await feeder.database.read(partial(replays.requests, batch=batch, rows=rows))

    async def consider(self, feeder: Feeder, batch: Batch, settled: Sequence[Settled]) -> Mapping[int, Effect]:
        found: list[Considered] = await feeder.database.read(partial(replayed.considered, batch=batch, settled=settled))
        return {each.row.number: await _effect(feeder, batch, each) for each in found}

    async def conclude(self, feeder: Feeder, batch: Batch, state: BatchState) -> dict[str, Any] | None:  # noqa: ARG002
        details = await feeder.database.read(partial(replayed.details_of, batch=batch))
        return Summary.of(planned_of(batch), details, over=True).output()

    def event(self, state: BatchState) -> str:
        return f"replay.{state}"


def _made(session: Session, batch: Batch) -> None:
    batches.clear(session, batch.id)
    batches.add(session, batch.id, replays.rows_of(session, batch))
    batches.started(session, batch.id, now_ms())


async def _effect(feeder: Feeder, batch: Batch, each: Considered) -> Effect:
    judgement = await asyncio.to_thread(judge, each.recorded, each.replayed, each.terms)  # long answers take 15 ms
    detail = {
        **(each.row.detail or {}),
        "judgement": judgement.told(),
        "token": await _token(feeder, each, judgement),
        "source": _measured(each.source),
        "target": _measured(each.job),
    }
    if batch.spec["history"] != History.LIVE:
        return Effect(detail)
    query = partial(replays.following, batch=batch, row=each.row, answers=each.replayed.answers)
    return Effect(detail, await feeder.database.read(partial(query, same=each.replayed.messages_same)))


async def _token(feeder: Feeder, each: Considered, judgement: Judgement) -> dict[str, Any] | None:
    if judgement.difference is None:
        return None
    jobs = (each.source, each.job)
    before, after = [await result_by_id(feeder.database, feeder.objects, job.id) for job in jobs]
    if before is None or after is None:
        return None
    found = await asyncio.to_thread(token_places.parting, before, after, judgement.difference.choice)
    return None if found is None else {"token": found.token, "told_by": found.told_by}


def _measured(job: Job) -> dict[str, Any]:
    """Times count from the claim: waiting in the queue says nothing of the model."""
    began = job.started_ms
    return {
        "environment": job.environment,
        "latency_ms": _since(began, job.ended_ms),
        "ttft_ms": _since(began, job.first_token_ms),
        "cost_micros": job.cost_micros,
        "completion_tokens": job.completion_tokens,
        "cached_tokens": job.cached_tokens,
    }


def _since(began_ms: int | None, at_ms: int | None) -> int | None:
    return None if began_ms is None or at_ms is None else at_ms - began_ms
