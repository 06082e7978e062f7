"""The commit guard: PostgreSQL refuses what the transaction does not announce, and nothing else."""

import uuid
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from streams.audit import commit_guard
from streams.audit.subjects import resolve_tables, wanted_of_texts
from streams.capture.changes import webhooks_disabled
from streams.capture.outbox import OutboxRow, append
from streams.database import create_database_engine
from tests.streams.audit.shop import TABLES, AuditOrder, Employee, Line, create_tables, session_of
from tests.streams.cli.commands import Commands
from topics.keys import partition_key

pytestmark = pytest.mark.postgres


@pytest.fixture
def shop(postgres_database: str) -> Iterator[Engine]:
    """The shop on a server as it comes: the guard needs nothing of it."""
    engine = create_database_engine(postgres_database)
    create_tables(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def guarded(shop: Engine) -> Engine:
    with shop.begin() as connection:
        commit_guard.install(connection, resolve_tables(connection, wanted_of_texts(TABLES)))
    return shop


@pytest.fixture
def session(guarded: Engine) -> Iterator[Session]:
    with session_of(guarded) as session:
        session.add_all([AuditOrder(id=1), AuditOrder(id=2), Line(place="a|b,c%é", number=2)])
        session.commit()
        yield session


def announce(session: Session, order: int) -> None:
    key = partition_key("1", "AuditOrder", str(order), "")
    append(session.connection(), [OutboxRow("t", key, b"", "ModelChanged", None, "1", str(uuid.uuid4()))])


def refused(session: Session) -> str:
    with pytest.raises(IntegrityError, match="was not announced") as caught:
        session.commit()
    session.rollback()
    return str(caught.value.orig)


def test_what_the_models_write_is_let_through(session: Session) -> None:
    with session.begin_nested():
        session.get_one(AuditOrder, 1).status = "paid"
    with session.begin_nested() as savepoint:
        session.get_one(AuditOrder, 2).status = "paid"
        session.flush()
        savepoint.rollback()
    session.add(Employee(id=5, name="Ada", desk="3"))
    session.delete(session.get_one(Line, ("a|b,c%é", 2)))
    session.commit()
    session.get_one(Employee, 5).desk = "4"
    session.commit()


def test_sql_bulk_statements_and_silenced_changes_are_refused(session: Session) -> None:
    session.execute(text("INSERT INTO audit_orders VALUES (3, 'new')"))
    assert "public.audit_orders (insert of row 3)" in refused(session)
    session.execute(text("UPDATE audit_lines SET amount = 9"))
    assert "update of row a%7Cb%2Cc%25" in refused(session)
    session.execute(text("DELETE FROM audit_orders WHERE id = 2"))
    assert "delete of row 2" in refused(session)
    with webhooks_disabled():
        session.get_one(AuditOrder, 1).status = "paid"
        session.flush()
    refused(session)


def test_events_of_other_transactions_rows_and_undone_savepoints_do_not_count(session: Session) -> None:
    # Order 1 has its event of its creation, committed and not yet published.
    session.execute(text("UPDATE audit_orders SET status = 'paid' WHERE id = 1"))
    announce(session, 2)
    refused(session)
    session.execute(text("UPDATE audit_orders SET status = 'paid' WHERE id = 1"))
    with session.begin_nested() as savepoint:
        announce(session, 1)
        savepoint.rollback()
    refused(session)


def test_rows_announced_by_hand_in_the_transaction_or_a_released_savepoint_are_let_through(session: Session) -> None:
    session.execute(text("UPDATE audit_orders SET status = 'paid' WHERE id = 1"))
    announce(session, 1)
    session.commit()
    with session.begin_nested():
        session.execute(text("UPDATE audit_orders SET status = 'sent' WHERE id = 2"))
    with session.begin_nested():
        announce(session, 2)
    session.commit()


def test_an_event_of_a_transaction_that_is_still_open_does_not_count(guarded: Engine, session: Session) -> None:
    with session_of(guarded) as other:
        announce(other, 1)
        other.flush()
        session.execute(text("UPDATE audit_orders SET status = 'paid' WHERE id = 1"))
        refused(session)
        other.rollback()


def test_what_changes_nothing_and_what_is_exempted_is_let_through(session: Session) -> None:
    session.execute(text("UPDATE audit_orders SET status = status"))
    session.commit()
    session.execute(text("SET LOCAL webhook.unannounced = 'on'"))
    session.execute(text("UPDATE audit_orders SET status = 'repaired'"))
    session.commit()
    session.execute(text("UPDATE audit_orders SET status = 'paid'"))
    refused(session)


def test_the_commands_add_list_and_remove_it(shop: Engine, postgres_database: str) -> None:
    commands, database = Commands(), ("--database-url", postgres_database)
    both = ("--table", "audit_orders=AuditOrder", "--table", "audit_lines=Line")
    commands.run("guard", "add", *both, "--dry-run", *database)
    assert commands.json("guard", "list", *database) == []
    assert "Guarded" in commands.run("guard", "add", *both, *database)
    commands.run("guard", "add", *both, *database)
    assert commands.json("guard", "list", *database) == [
        {"table": "audit_lines", "models": "Line", "key": "place, number"},
        {"table": "audit_orders", "models": "AuditOrder", "key": "id"},
    ]
    commands.run("guard", "remove", "--table", "audit_lines", *database)
    commands.run("guard", "remove", "--all", *database)
    with shop.begin() as connection:
        connection.execute(text("INSERT INTO audit_orders VALUES (9, 'new')"))
        found = connection.execute(
            text("SELECT to_regproc('webhook_require_event'), to_regclass('ix_webhook_outbox_model_row')")
        ).one()
    assert tuple(found) == (None, None)
