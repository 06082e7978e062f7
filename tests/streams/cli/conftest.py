"""Migrated SQLite databases: in a data directory for commands that need no broker, and beside an embedded one."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from projections.migrate import upgrade
from streams.broker.runtime import embedded_database_url
from streams.database import create_database_engine
from streams.settings import Settings
from tests.handlers.examples import SEED_TEXT, small


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database to copy."""
    path = tmp_path_factory.mktemp("migrated") / "system.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def place(migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory with a migrated database, and configuration files to give."""
    shutil.copy(migrated, tmp_path / "system.db")
    monkeypatch.setenv("WEBHOOK_DATABASE_URL", f"sqlite:///{tmp_path / 'system.db'}")
    monkeypatch.setenv("WEBHOOK_DATA_DIR", str(tmp_path))
    (tmp_path / "seed.json").write_text(SEED_TEXT)
    (tmp_path / "bad.json").write_text(json.dumps(small(plugin_port=0, auth={"url": "x", "secret": "canary"})))
    return tmp_path


@pytest.fixture
def engine(embedded_settings: Settings) -> Iterator[Engine]:
    """The migrated database that commands beside an embedded broker find."""
    engine = create_database_engine(embedded_database_url(embedded_settings.data_dir))
    upgrade(engine)
    yield engine
    engine.dispose()
