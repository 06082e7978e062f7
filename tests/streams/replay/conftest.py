"""A migrated SQLite database for each test, copied from one that was migrated once."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from projections.migrate import upgrade
from streams.database import create_database_engine


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "system.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def engine(migrated: Path, tmp_path: Path) -> Iterator[Engine]:
    shutil.copy(migrated, tmp_path / "system.db")
    engine = create_database_engine(f"sqlite:///{tmp_path / 'system.db'}")
    yield engine
    engine.dispose()
