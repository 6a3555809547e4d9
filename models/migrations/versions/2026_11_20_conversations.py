"""Conversations that clients name, and the marks by which they are found."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

NAMED, UNMARKED = sa.text("name IS NOT NULL"), sa.text("NOT marked")


def upgrade() -> None:
    op.add_column("conversations", sa.Column("name", sa.String(length=64), nullable=True))
    op.create_index("ix_conversations_updated", "conversations", ["account_id", "updated_ms", "id"])
    op.create_index(
        "ix_conversations_name",
        "conversations",
        ["account_id", "name"],
        unique=True,
        sqlite_where=NAMED,
        postgresql_where=NAMED,
    )
    with op.batch_alter_table("turns") as turns:
        turns.add_column(sa.Column("marked", sa.Boolean(), nullable=False, server_default=sa.false()))
    with op.batch_alter_table("turns") as turns:
        turns.alter_column("marked", server_default=None)
    op.create_index("ix_turns_unmarked", "turns", ["job_id"], sqlite_where=UNMARKED, postgresql_where=UNMARKED)

    op.add_column("jobs", sa.Column("conversation_name", sa.String(length=64), nullable=True))

    op.create_table(
        "marks",
        sa.Column("mark", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("conversation_id", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["conversation_id"], ["conversations.id"], name=op.f("fk_marks_conversation_id")),
        sa.PrimaryKeyConstraint("mark", "conversation_id", name=op.f("pk_marks")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_marks_conversation_id"), "marks", ["conversation_id"])
