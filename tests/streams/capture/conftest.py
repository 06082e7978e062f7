"""Databases that the tests of what the relay reads share."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import StaticPool

from projections.migrate import upgrade


@pytest.fixture(scope="module")
def empty() -> Iterator[Engine]:
    """A database with the projections' tables, kept for a module; who uses it empties it."""
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    upgrade(engine, ("projections",))
    yield engine
    engine.dispose()
