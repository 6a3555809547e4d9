"""Sub-accounts, their limits, and what was used."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Each in its words: SQLite uses the index only where a query says the same.
UNFOLDED, UNFOLDED_SQLITE = sa.text("NOT folded"), sa.text("folded = 0")
HELD = sa.text("held_micros IS NOT NULL AND ended_ms IS NULL")


def upgrade() -> None:
    for column in (
        sa.Column("parent_id", sa.String(length=32), nullable=True),
        sa.Column("external_ref", sa.String(length=200), nullable=True),
        sa.Column("default_tag", sa.String(length=100), nullable=True),
        sa.Column("requests_per_minute", sa.Integer(), nullable=True),
        sa.Column("tokens_per_minute", sa.Integer(), nullable=True),
        sa.Column("parallel", sa.Integer(), nullable=True),
        sa.Column("models", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("month_cap_micros", sa.BigInteger(), nullable=True),
        sa.Column("total_cap_micros", sa.BigInteger(), nullable=True),
        sa.Column("credit_micros", sa.BigInteger(), nullable=True),
        sa.Column("closed_ms", sa.BigInteger(), nullable=True),
    ):
        op.add_column("accounts", column)
    op.create_index(op.f("ix_accounts_parent_id"), "accounts", ["parent_id"])

    for column in (
        sa.Column("parent_id", sa.String(length=32), nullable=True),
        sa.Column("tag", sa.String(length=100), nullable=True),
        sa.Column("held_micros", sa.BigInteger(), nullable=True),
        sa.Column("cost_micros", sa.BigInteger(), nullable=True),
    ):
        op.add_column("jobs", column)
    op.create_index("ix_jobs_held", "jobs", ["account_id"], sqlite_where=HELD, postgresql_where=HELD)

    op.create_table(
        "usage",
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("payer_id", sa.String(length=32), nullable=False),
        sa.Column("tag", sa.String(length=100), nullable=False),
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("card", sa.String(length=100), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("cached_tokens", sa.Integer(), nullable=False),
        sa.Column("completion_tokens", sa.Integer(), nullable=False),
        sa.Column("cost_micros", sa.BigInteger(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("month", sa.String(length=7), nullable=False),
        sa.Column("folded", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_usage_account_id")),
        sa.ForeignKeyConstraint(["payer_id"], ["accounts.id"], name=op.f("fk_usage_payer_id")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_usage")),
    )
    op.create_index("ix_usage_payer", "usage", ["payer_id", "at_ms"])
    op.create_index("ix_usage_account", "usage", ["account_id", "at_ms"])
    op.create_index("ix_usage_unfolded", "usage", ["payer_id"], sqlite_where=UNFOLDED_SQLITE, postgresql_where=UNFOLDED)

    op.create_table(
        "usage_sums",
        sa.Column("payer_id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("month", sa.String(length=7), nullable=False),
        sa.Column("tag", sa.String(length=100), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_tokens", sa.BigInteger(), nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_micros", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_usage_sums_account_id")),
        sa.ForeignKeyConstraint(["payer_id"], ["accounts.id"], name=op.f("fk_usage_sums_payer_id")),
        sa.PrimaryKeyConstraint("payer_id", "account_id", "month", "tag", name=op.f("pk_usage_sums")),
    )
