"""Files that accounts keep, and the order in which a batch's rows ended."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ENDED = sa.text("ended_no IS NOT NULL")
DUE = sa.text("due_ms IS NOT NULL")


def upgrade() -> None:
    op.create_table(
        "files",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("account_id", sa.String(length=32), nullable=False),
        sa.Column("filename", sa.String(length=255), nullable=False),
        sa.Column("purpose", sa.String(length=20), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "uploading",
                "stored",
                "deleted",
                name="filestate",
                native_enum=False,
                create_constraint=True,
                length=20,
            ),
            nullable=False,
        ),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=True),
        sa.Column("due_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_files_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_files")),
    )
    op.create_index("ix_files_due", "files", ["due_ms"], sqlite_where=DUE, postgresql_where=DUE)
    op.create_index("ix_files_list", "files", ["account_id", "id"])
    op.create_index("ix_files_list_purpose", "files", ["account_id", "purpose", "id"])
    op.add_column("batch_rows", sa.Column("ended_no", sa.Integer(), nullable=True))
    columns = ["batch_id", "ended_no", "number"]
    op.create_index("ix_batch_rows_ended", "batch_rows", columns, sqlite_where=ENDED, postgresql_where=ENDED)
