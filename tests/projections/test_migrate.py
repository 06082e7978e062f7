"""Migrations: they make what the metadata says, on both databases, once, branch by branch."""

from collections.abc import Iterator

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, inspect

from projections.migrate import BRANCHES, alembic_config, current_heads, expected_heads, pending, upgrade
from projections.tables import METADATA
from streams.database import create_database_engine


@pytest.fixture
def empty(database_url: str) -> Iterator[Engine]:
    """A database never migrated."""
    engine = create_database_engine(database_url)
    yield engine
    engine.dispose()


def test_the_metadata_equals_the_migrations(empty: Engine) -> None:
    upgrade(empty, ["projections"])
    with empty.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, METADATA) == []


def test_every_branch_goes_from_nothing_to_its_head_once(empty: Engine) -> None:
    assert current_heads(empty) == dict.fromkeys(BRANCHES)
    assert pending(empty) == {branch: (None, head) for branch, head in expected_heads().items()}
    assert set(upgrade(empty)) == set(BRANCHES)
    assert current_heads(empty) == expected_heads()
    assert upgrade(empty) == {}


def test_a_tenant_database_has_the_outbox_alone(empty: Engine) -> None:
    upgrade(empty, ["outbox"])
    tables = set(inspect(empty).get_table_names())
    assert "webhook_outbox" in tables
    assert tables.isdisjoint({"websites", "webhook_events"})
    assert set(pending(empty)) == {"system", "projections"}


def test_every_migration_can_be_undone(empty: Engine) -> None:
    upgrade(empty)
    with empty.begin() as connection:
        for branch in BRANCHES:
            command.downgrade(alembic_config(connection), f"{branch}@base")
    assert set(inspect(empty).get_table_names()) == {"alembic_version"}
