from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, event

from handlers.tenants.tables import METADATA
from streams.database import create_database_engine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A SQLite database with the system's tables."""
    engine = create_engine(f"sqlite:///{tmp_path / 'system.db'}")
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys = ON"))
    METADATA.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, engine: Engine) -> Iterator[Engine]:
    """The system's tables on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        yield engine
        return
    postgres = create_database_engine(request.getfixturevalue("postgres_database"))
    METADATA.create_all(postgres)
    yield postgres
    postgres.dispose()
