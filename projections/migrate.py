"""Brings a database to the schema this version of the package needs, and says how far away it is.

Three branches share one ``alembic_version`` table: a tenant's database has only ``outbox``, the system's all three.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, text

BRANCHES: Final = ("system", "projections", "outbox")
_LOCK: Final = 0x7765626D  # one migration of a database at a time


def alembic_config(connection: Connection | None = None) -> Config:
    """Alembic's configuration of the packaged migrations, to be run on a connection."""
    config = Config()
    config.set_main_option("script_location", str(files("projections") / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    if connection is not None:
        config.attributes["connection"] = connection
    return config


@contextmanager
def _engine(target: str | Engine) -> Iterator[Engine]:
    if isinstance(target, Engine):
        yield target
        return
    engine = create_engine(target)
    try:
        yield engine
    finally:
        engine.dispose()


@cache
def _revisions() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Each branch's head, and all of its revisions from the newest to the oldest."""
    scripts = ScriptDirectory.from_config(alembic_config())
    found = {}
    for branch in BRANCHES:
        names = tuple(script.revision for script in scripts.iterate_revisions(f"{branch}@head", "base"))
        found[branch] = (names[0], names)
    return found


def expected_heads(branches: Sequence[str] = BRANCHES) -> dict[str, str]:
    """The revision each branch must have. Raises ``KeyError`` for an unknown branch."""
    return {branch: _revisions()[branch][0] for branch in branches}


def current_heads(target: str | Engine, branches: Sequence[str] = BRANCHES) -> dict[str, str | None]:
    """The revision each branch has in the database: ``None`` where it was never migrated, or is at one unknown here."""
    with _engine(target) as engine, engine.connect() as connection:
        present = set(MigrationContext.configure(connection).get_current_heads())
    return {branch: next((each for each in _revisions()[branch][1] if each in present), None) for branch in branches}


def pending(target: str | Engine, branches: Sequence[str] = BRANCHES) -> dict[str, tuple[str | None, str]]:
    """What is missing: ``{branch: (current, expected)}`` for each branch that is not at its head."""
    current = current_heads(target, branches)
    return {
        branch: (current[branch], head) for branch, head in expected_heads(branches).items() if current[branch] != head
    }


def upgrade(target: str | Engine, branches: Sequence[str] = BRANCHES) -> dict[str, tuple[str | None, str]]:
    """Bring the branches to their heads, in one transaction, and give what was done as ``pending`` does.

    Processes that start together take turns on PostgreSQL. Raises what SQLAlchemy raises where the database refuses.
    """
    with _engine(target) as engine:
        missing = pending(engine, branches)
        if not missing:
            return {}
        with engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            for branch in missing:
                command.upgrade(alembic_config(connection), f"{branch}@head")
        return missing
