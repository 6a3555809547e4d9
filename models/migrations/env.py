"""How does Alembic run?  On the connection `infra.schema.migrate` hands it; it opens none of its own.

On Postgres an advisory lock makes several starting processes take turns; on SQLite `BEGIN IMMEDIATE` has done so already.
"""

from alembic import context
from sqlalchemy import Connection, text

from models.tables.base import Base

_LOCK = 0x7472616D  # "tram"

connection: Connection = context.config.attributes["connection"]
if connection.dialect.name == "postgresql":
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
context.run_migrations()
