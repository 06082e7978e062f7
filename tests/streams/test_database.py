from pathlib import Path

import psycopg2
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError, DataError, DBAPIError, InterfaceError, OperationalError, ProgrammingError

from projections.migrate import upgrade
from streams.database import check_migrations, create_database_engine, is_away
from streams.errors import SetupError


def test_sqlite_has_a_write_ahead_log_and_foreign_keys(tmp_path: Path) -> None:
    for durable, synchronous in ((False, 1), (True, 2)):
        engine = create_database_engine(f"sqlite:///{tmp_path}/a.db", durable=durable)
        with engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one() == 1
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one() == 15_000
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == synchronous
        engine.dispose()


def test_sqlite_savepoints_keep_to_their_transaction(tmp_path: Path) -> None:
    engine = create_database_engine(f"sqlite:///{tmp_path}/a.db")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (n INTEGER)"))
    with engine.connect() as connection:
        with connection.begin_nested():
            connection.execute(text("INSERT INTO t VALUES (1)"))
        connection.rollback()
        assert connection.execute(text("SELECT count(*) FROM t")).scalar_one() == 0
    engine.dispose()


def test_a_read_before_a_write_does_not_lose_to_another_writer(tmp_path: Path) -> None:
    engine = create_database_engine(f"sqlite:///{tmp_path}/a.db")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (n INTEGER)"))
    with engine.begin() as first:
        first.execute(text("SELECT * FROM t")).all()
        with engine.begin() as second:
            second.execute(text("INSERT INTO t VALUES (1)"))
        first.execute(text("INSERT INTO t VALUES (2)"))
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM t")).scalar_one() == 2
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "words"), [("no url", "cannot be read"), ("mysql+pymysql://h/n", "mysql is not supported")]
)
def test_a_wrong_url_is_a_matter_of_set_up(url: str, words: str) -> None:
    with pytest.raises(SetupError, match=words):
        create_database_engine(url)


def test_the_migration_level_is_checked_for_the_branches_named(tmp_path: Path) -> None:
    engine = create_database_engine(f"sqlite:///{tmp_path}/a.db")
    with pytest.raises(SetupError, match=r"outbox at nothing instead of outbox_0001.*webhook migrate"):
        check_migrations(engine)
    upgrade(engine, ["outbox"])
    check_migrations(engine, ["outbox"])
    with pytest.raises(SetupError, match="system at nothing"):
        check_migrations(engine)
    upgrade(engine)
    check_migrations(engine)
    engine.dispose()


def test_a_database_that_is_away_is_named_without_its_password() -> None:
    engine = create_database_engine("postgresql://user:hidden@127.0.0.1:1/none")
    with pytest.raises(SetupError, match="cannot be reached") as caught:
        check_migrations(engine)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OperationalError("", (), Exception("refused")), True),
        (InterfaceError("", (), Exception("connection already closed")), True),
        (DatabaseError("", (), psycopg2.DatabaseError("server closed the connection unexpectedly")), True),
        (DataError("", (), Exception("too long")), False),
        (ProgrammingError("", (), Exception("no such table")), False),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_database_that_is_away_is_told_from_one_that_refuses(error: DBAPIError, expected: bool) -> None:
    assert is_away(error) is expected
