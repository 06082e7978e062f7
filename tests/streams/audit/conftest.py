"""A PostgreSQL whose log tells of rows, and databases of the shop in it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from streams.database import create_database_engine
from tests.streams.audit.shop import create_tables
from tests.support.services import fresh_database, running_postgres, use_logical_log


@pytest.fixture(scope="session")
def logical_postgres() -> Iterator[Path]:
    """Its directory."""
    with running_postgres() as directory:
        use_logical_log(directory)
        yield directory


@pytest.fixture
def shop_url(logical_postgres: Path) -> Iterator[str]:
    """A database of its own, with the shop's tables."""
    with fresh_database(logical_postgres) as url:
        yield url


@pytest.fixture
def shop(shop_url: str) -> Iterator[Engine]:
    """The same, as an engine."""
    engine = create_database_engine(shop_url)
    create_tables(engine)
    yield engine
    engine.dispose()
