"""Evals, their runs and their items."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

OPEN = sa.text("outcome IS NULL")


def words(name: str, *members: str) -> sa.Enum:
    return sa.Enum(*members, name=name, native_enum=False, create_constraint=True, length=20)


def text(name: str, length: int, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=length), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "evals",
        text("id", 40),
        text("account_id", 32),
        text("name", 200),
        sa.Column("source", sa.LargeBinary(), nullable=False),
        sa.Column("criteria", sa.LargeBinary(), nullable=False),
        sa.Column("metric", words("metric", "quality", "cost", "speed"), nullable=True),
        sa.Column("meta", sa.JSON(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_evals_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evals")),
    )
    op.create_index("ix_evals_list", "evals", ["account_id", "id"])
    op.create_index("ix_evals_updated", "evals", ["account_id", "updated_ms", "id"])

    op.create_table(
        "eval_runs",
        text("id", 40),
        text("eval_id", 40),
        text("account_id", 32),
        text("name", 200),
        text("model", 200, nullable=True),
        sa.Column("source", sa.LargeBinary(), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("total", "passed", "failed", "errored")),
        sa.Column("criteria", sa.LargeBinary(), nullable=False),
        sa.Column("sampled", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("latency_ms", "cost_micros", "created_ms")),
        sa.ForeignKeyConstraint(["id"], ["batches.id"], name=op.f("fk_eval_runs_id")),
        sa.ForeignKeyConstraint(["eval_id"], ["evals.id"], name=op.f("fk_eval_runs_eval_id")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_eval_runs_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_eval_runs")),
    )
    op.create_index("ix_eval_runs_list", "eval_runs", ["eval_id", "id"])

    op.create_table(
        "eval_items",
        text("run_id", 40),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("outcome", words("outcome", "pass", "fail", "error"), nullable=True),
        sa.Column("item", sa.LargeBinary(), nullable=False),
        *(sa.Column(name, sa.LargeBinary(), nullable=True) for name in ("given", "sample", "results")),
        text("job_id", 32, nullable=True),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("latency_ms", sa.Integer(), nullable=True),
        *(sa.Column(name, sa.BigInteger(), nullable=True) for name in ("cost_micros", "graded_ms")),
        sa.ForeignKeyConstraint(["run_id"], ["eval_runs.id"], name=op.f("fk_eval_items_run_id")),
        sa.PrimaryKeyConstraint("run_id", "number", name=op.f("pk_eval_items")),
    )
    op.create_index("ix_eval_items_open", "eval_items", ["run_id", "number"], sqlite_where=OPEN, postgresql_where=OPEN)
    op.create_index("ix_eval_items_outcome", "eval_items", ["run_id", "outcome", "number"])
