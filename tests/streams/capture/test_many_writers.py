"""Sixteen writers of one SQLite file: what is committed is announced, nothing else is, each row in its order (R11)."""

import random
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from handlers.tenants.current import tenant_context
from tests.faults.writer import TABLE, Base, attempt
from tests.faults.writers import Step, differing, steps_of
from tests.streams.capture.captured import changes, shop_database

WRITERS = 16
TRANSACTIONS = 6

# The database itself writes down what happens, in the transaction that does it, apart from all code of ours.
WITNESS = (
    "CREATE TABLE witness (place INTEGER PRIMARY KEY AUTOINCREMENT, id INTEGER, event TEXT, version INTEGER)",
    *(
        f"CREATE TRIGGER {event} AFTER {operation} ON {TABLE} BEGIN "
        f"INSERT INTO witness (id, event, version) VALUES ({row}.id, '{event}', {version}); END"
        for event, operation, row, version in (
            ("created", "INSERT", "new", "new.version"),
            ("updated", "UPDATE", "new", "new.version"),
            ("deleted", "DELETE", "old", "0"),
        )
    ),
)


def write(engine: Engine, seed: int) -> int:
    chance = random.Random(seed)
    with tenant_context("1"), Session(engine) as session:
        return sum(attempt(session, chance) for _ in range(TRANSACTIONS))


def test_what_sixteen_writers_commit_is_announced_once_and_in_order(tmp_path: Path) -> None:
    with shop_database(tmp_path, Base.metadata) as engine:
        with engine.begin() as connection:
            for statement in WITNESS:
                connection.execute(text(statement.replace(":", "\\:")))
        with ThreadPoolExecutor(WRITERS) as threads:
            done = sum(threads.map(lambda seed: write(engine, seed), range(WRITERS)))
        happened: dict[str, list[Step]] = defaultdict(list)
        with engine.connect() as connection:
            for row in connection.execute(text("SELECT id, event, version FROM witness ORDER BY place")):
                happened[str(row.id)].append((row.event, row.version))
        announced = changes(engine)
    assert done > WRITERS
    assert sum(map(len, happened.values())) == len(announced) > WRITERS
    assert differing(happened, steps_of(announced)) == []
