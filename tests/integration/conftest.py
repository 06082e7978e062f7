"""An installation on the real services whose roles are processes of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from streams.database import create_database_engine
from streams.settings import Settings
from tests.support.roles import Installation, installation
from topics.catalogue import Catalogue


@pytest.fixture
def roles(
    kafka_settings: Settings, catalogue: Catalogue, postgres_database: str, tmp_path: Path
) -> Iterator[Installation]:
    with installation(kafka_settings, postgres_database, tmp_path) as made:
        made.run("migrate")
        yield made


@pytest.fixture
def engine(postgres_database: str) -> Iterator[Engine]:
    engine = create_database_engine(postgres_database)
    yield engine
    engine.dispose()
