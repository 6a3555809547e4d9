"""The migrations make exactly the tables that the code believes in, once, whoever starts them and how often."""

import subprocess
import sys

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import CheckConstraint, create_engine, inspect, text

from infra.schema import migrate
from models.tables.base import Base

WITHIN_S = 60
MIGRATE = "import sys; from infra.schema import migrate; print(flush=True); input(); migrate(sys.argv[1])"


@pytest.fixture
def engine(blank_url):
    made = create_engine(blank_url)
    yield made
    made.dispose()


def tables(connection):
    return set(inspect(connection).get_table_names()) - {"alembic_version"}


def revisions(connection):
    return connection.scalars(text("SELECT version_num FROM alembic_version")).all()


def test_the_migrations_make_the_tables_of_the_code(blank_url, engine):
    migrate(blank_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []
        assert tables(connection) == set(Base.metadata.tables)


def test_the_migrations_make_the_constraints_of_the_code(blank_url, engine):
    """Which Alembic's comparison leaves out: checks, and the names of keys."""
    migrate(blank_url)
    with engine.connect() as connection:
        found = inspect(connection)
        for name, table in Base.metadata.tables.items():
            checks = {each.name for each in table.constraints if isinstance(each, CheckConstraint)}
            assert {each["name"] for each in found.get_check_constraints(name)} == checks
            assert found.get_pk_constraint(name)["name"] == table.primary_key.name
            assert {each["name"] for each in found.get_foreign_keys(name)} == {
                each.name for each in table.foreign_key_constraints
            }


def test_indexes_for_sweeps_hold_only_what_is_swept(blank_url, engine):
    """Partial indexes: a million ended jobs weigh nothing in them."""
    migrate(blank_url)
    catalogue = {
        "sqlite": "SELECT sql FROM sqlite_master WHERE type = 'index'",
        "postgresql": "SELECT indexdef FROM pg_indexes",
    }
    with engine.connect() as connection:
        made = [str(each) for each in connection.scalars(text(catalogue[engine.dialect.name]))]
    for name in ("jobs_publish_due", "jobs_queued_deadline", "jobs_lease_until", "jobs_forget_due", "deliveries_due"):
        (definition,) = [each for each in made if f"ix_{name} " in each]
        assert "WHERE" in definition


def test_a_second_migration_changes_nothing(blank_url, engine):
    migrate(blank_url)
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO accounts (id, name, salt, webhook_secret, created_ms) VALUES ('a','a','','',1)")
        )
        before = revisions(connection)
    migrate(blank_url)
    with engine.connect() as connection:
        assert revisions(connection) == before
        assert connection.scalar(text("SELECT count(*) FROM accounts")) == 1


def test_processes_that_start_together_migrate_once(blank_url, engine):
    pipe = subprocess.PIPE
    command = (sys.executable, "-c", MIGRATE, blank_url)
    started = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    for process in started:
        process.stdout.readline()  # all is imported
    for process in started:
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=WITHIN_S)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    with engine.connect() as connection:
        assert len(revisions(connection)) == 1
        assert tables(connection) == set(Base.metadata.tables)


def test_a_migration_that_fails_leaves_nothing_half_done(blank_url, engine):
    """Tables are made in one transaction: what stands in the way of the last undoes the first."""
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE delivery_attempts (x INTEGER)"))
    with pytest.raises(Exception, match="delivery_attempts"):
        migrate(blank_url)
    with engine.begin() as connection:
        assert tables(connection) == {"delivery_attempts"}
        connection.execute(text("DROP TABLE delivery_attempts"))
    migrate(blank_url)
    with engine.connect() as connection:
        assert tables(connection) == set(Base.metadata.tables)


def test_the_folder_of_a_file_is_made(tmp_path):
    url = f"sqlite:///{tmp_path / 'a' / 'b' / 'tram.db'}"
    migrate(url)
    assert (tmp_path / "a" / "b" / "tram.db").exists()
