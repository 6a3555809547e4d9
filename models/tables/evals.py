"""What is measured, on which questions, and what came of it?  An eval, its runs, and an item for each question of a run.

A run's jobs are a batch's (`models.tables.batches`), whose id is the run's; what is here is what the batch does not know.
`models.evals` and `models.eval_items` alone write here.
"""

from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, Float, ForeignKey, Index, Integer, String, text
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import Base, Milliseconds, Packed, words


class Metric(StrEnum):
    """AIGateway's words for what the winner is best at."""

    QUALITY = "quality"
    COST = "cost"
    SPEED = "speed"


class Outcome(StrEnum):
    """OpenAI's words."""

    PASS = "pass"  # noqa: S105 -- no password
    FAIL = "fail"
    ERROR = "error"
    """There is no answer, or a grader could not grade it."""


_OPEN = text("outcome IS NULL")


class Eval(Base):
    __tablename__ = "evals"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    name: Mapped[str] = mapped_column(String(200))
    source: Mapped[dict[str, Any]] = mapped_column(Packed)
    """Its `data_source_config`, as it was sent."""
    criteria: Mapped[list[dict[str, Any]]] = mapped_column(Packed)
    """Its `testing_criteria`, as they were sent."""
    metric: Mapped[Metric | None] = mapped_column(words(Metric))
    """Of AIGateway's shorthand, which has no other word for how to choose."""
    meta: Mapped[dict[str, str]] = mapped_column(JSON, default=dict)
    created_ms: Mapped[int] = mapped_column(Milliseconds)
    updated_ms: Mapped[int] = mapped_column(Milliseconds)

    __table_args__ = (
        Index("ix_evals_list", "account_id", "id"),
        Index("ix_evals_updated", "account_id", "updated_ms", "id"),
    )


class EvalRun(Base):
    __tablename__ = "eval_runs"

    id: Mapped[str] = mapped_column(ForeignKey("batches.id"), primary_key=True)
    eval_id: Mapped[str] = mapped_column(ForeignKey("evals.id"))
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    name: Mapped[str] = mapped_column(String(200))
    model: Mapped[str | None] = mapped_column(String(200))
    """None: it grades answers that came with its items."""
    source: Mapped[dict[str, Any]] = mapped_column(Packed)
    """Its `data_source`, without the content of an inline one: that is its items."""
    total: Mapped[int] = mapped_column(Integer)
    passed: Mapped[int] = mapped_column(Integer, default=0)
    failed: Mapped[int] = mapped_column(Integer, default=0)
    errored: Mapped[int] = mapped_column(Integer, default=0)
    criteria: Mapped[list[dict[str, Any]]] = mapped_column(Packed)
    """Of each criterion: `passed`, `failed`, `errored` and the sum of its scores."""
    sampled: Mapped[int] = mapped_column(Integer, default=0)
    """Items that a model has answered; what the next two add up."""
    latency_ms: Mapped[int] = mapped_column(BigInteger, default=0)
    cost_micros: Mapped[int] = mapped_column(BigInteger, default=0)
    created_ms: Mapped[int] = mapped_column(Milliseconds)

    __table_args__ = (Index("ix_eval_runs_list", "eval_id", "id"),)


class EvalItem(Base):
    __tablename__ = "eval_items"

    run_id: Mapped[str] = mapped_column(ForeignKey("eval_runs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    """In the order of the data, from 0."""
    outcome: Mapped[Outcome | None] = mapped_column(words(Outcome))
    """None: not graded yet."""
    item: Mapped[dict[str, Any]] = mapped_column(Packed)
    given: Mapped[dict[str, Any] | None] = mapped_column(Packed)
    """The `sample` that came with it."""
    sample: Mapped[dict[str, Any] | None] = mapped_column(Packed)
    """What was graded, as OpenAI shows it."""
    results: Mapped[list[dict[str, Any]] | None] = mapped_column(Packed)
    """A grade for each criterion."""
    job_id: Mapped[str | None] = mapped_column(String(32))
    """Of the answer."""
    score: Mapped[float | None] = mapped_column(Float)
    """Mean of what could be graded."""
    latency_ms: Mapped[int | None] = mapped_column(Integer)
    """From the claim to the end, where a model answered."""
    cost_micros: Mapped[int | None] = mapped_column(BigInteger)
    graded_ms: Mapped[int | None] = mapped_column(Milliseconds)

    __table_args__ = (
        Index("ix_eval_items_open", "run_id", "number", sqlite_where=_OPEN, postgresql_where=_OPEN),
        Index("ix_eval_items_outcome", "run_id", "outcome", "number"),
    )
