"""The audit on a real PostgreSQL: what it finds, what it leaves behind, and what it refuses."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text, update
from typer.testing import CliRunner

from streams.audit.slot import AuditReport, WalAudit
from streams.audit.subjects import resolve_tables, wanted_of_models, wanted_of_texts
from streams.capture.bulk import bulk_update
from streams.capture.changes import webhooks_disabled
from streams.cli.main import app
from streams.database import create_database_engine
from streams.errors import SetupError
from tests.streams.audit.shop import TABLES, AuditOrder, Employee, Line, session_of
from tests.streams.cli.commands import Commands

pytestmark = pytest.mark.postgres


@pytest.fixture
def audit(shop: Engine) -> Iterator[WalAudit]:
    made = WalAudit(shop)
    with shop.connect() as connection:
        tables = resolve_tables(connection, wanted_of_texts(TABLES))
    made.start(tables, limit_mb=0, wait_s=60)
    yield made
    made.stop()


def sums(report: AuditReport) -> dict[str, tuple[int, int, int, int]]:
    return {each.tables: (each.changes, each.events, each.missing, each.extra) for each in report.tables}


def test_what_the_models_write_is_announced_whatever_the_session_does(shop: Engine, audit: WalAudit) -> None:
    with session_of(shop) as session:
        order, line = AuditOrder(id=1), Line(place="a|b,c%é", number=2)
        session.add_all([order, line, Employee(id=5, name="Ada", desk="3")])
        session.commit()
        order.status = "paid"
        session.flush()
        with session.begin_nested() as savepoint:
            line.amount = 7
            session.flush()
            savepoint.rollback()
        line.amount = 8
        session.commit()
        bulk_update(session, update(AuditOrder).values(status="sent"))
        session.rollback()
        session.get_one(Employee, 5).desk = "4"
        session.delete(order)
        session.commit()
    report = audit.report()
    assert (report.missing, report.extra, report.findings) == (0, 0, [])
    assert report.transactions == 3
    assert sums(report) == {
        "audit_orders": (3, 3, 0, 0),
        "audit_lines": (2, 2, 0, 0),
        "audit_employees, audit_people": (2, 2, 0, 0),
    }


def test_each_way_around_the_models_is_found_and_the_next_report_begins_behind_it(
    shop: Engine, audit: WalAudit
) -> None:
    with session_of(shop) as session:
        with webhooks_disabled():
            session.add(AuditOrder(id=1))
            session.commit()
        session.execute(text("INSERT INTO audit_lines VALUES ('a', 1, 1)"))
        session.commit()
        session.execute(text("DELETE FROM audit_orders"))
        session.execute(text("TRUNCATE audit_lines"))
        session.commit()
    kept = audit.report(keep=True)
    assert [(each.tables, each.key, each.operations) for each in kept.findings] == [
        ("audit_orders", "1", ("insert",)),
        ("audit_lines", "a,1", ("insert",)),
        ("audit_lines", "", ("truncate",)),
        ("audit_orders", "1", ("delete",)),
    ]
    again = audit.report()
    assert (again.missing, again.findings) == (4, kept.findings)
    following = audit.report()
    assert (following.transactions, following.missing, following.begin) == (0, 0, again.end)


def test_an_update_that_changes_nothing_is_told_apart_where_the_log_has_whole_rows(
    shop: Engine, audit: WalAudit
) -> None:
    with session_of(shop) as session:
        session.add(AuditOrder(id=1))
        session.commit()
        session.execute(text("ALTER TABLE audit_orders REPLICA IDENTITY FULL"))
        session.execute(text("UPDATE audit_orders SET status = 'new'"))
        session.commit()
        session.execute(text("UPDATE audit_orders SET status = 'paid'"))
        session.commit()
    assert sums(audit.report())["audit_orders"] == (2, 1, 1, 0)


def test_the_commands_start_report_and_stop_and_leave_nothing_behind(shop: Engine, shop_url: str) -> None:
    commands, database = Commands(), ("--database-url", shop_url)
    tables = [option for table in TABLES for option in ("--table", table)]
    listed = commands.json("audit", "start", *tables, "--dry-run", *database)
    assert {each["table"] for each in listed} >= {"audit_orders", "audit_lines"}
    with pytest.raises(SetupError, match="sets no limit"):
        commands.run("audit", "start", *tables, *database)
    with pytest.raises(SetupError, match="No audit"):
        commands.run("audit", "report", *database)
    state = commands.json("audit", "start", *tables, "--limit-mb", "256", *database)
    try:
        assert (state["limit_mb"], state["is_lost"], len(state["tables"])) == (256, False, 4)
        with pytest.raises(SetupError, match="already"):
            commands.run("audit", "start", *tables, "--no-limit", *database)
        assert "Every change was announced." in commands.run("audit", "report", *database)
        with shop.begin() as connection:
            connection.execute(text("INSERT INTO audit_orders VALUES (9, 'new')"))
        found = CliRunner().invoke(app, ["audit", "report", *database])
        assert found.exit_code == 1
        assert "1 changes were not announced." in found.output
        assert "MB of log back" in commands.run("audit", "status", *database)
    finally:
        assert commands.json("audit", "stop", *database) == {"stopped": True}
        with shop.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("ALTER SYSTEM RESET max_slot_wal_keep_size"))
            connection.execute(text("SELECT pg_reload_conf()"))
    assert commands.json("audit", "stop", *database) == {"stopped": False}
    with shop.connect() as connection:
        left = "SELECT (SELECT count(*) FROM pg_replication_slots) + (SELECT count(*) FROM pg_publication)"
        assert connection.execute(text(left)).scalar_one() == 0


def test_a_start_that_fails_leaves_no_slot_and_no_publication(shop: Engine) -> None:
    made = WalAudit(shop)
    with shop.connect() as open_transaction, shop.connect() as connection:
        tables = resolve_tables(connection, wanted_of_texts(TABLES[:1]))
        open_transaction.execute(text("INSERT INTO audit_orders VALUES (1, 'new')"))
        with pytest.raises(SetupError, match="end them, or wait longer"):
            made.start(tables, limit_mb=0, wait_s=1)
        assert connection.execute(text("SELECT count(*) FROM pg_publication")).scalar_one() == 0
    with pytest.raises(SetupError, match="No audit"):
        made.state()


def test_tables_whose_rows_no_event_can_name_are_refused(shop: Engine) -> None:
    with shop.begin() as connection:
        connection.execute(text("CREATE TABLE without_key (id integer)"))
        connection.execute(text("CREATE TABLE by_time (at timestamptz PRIMARY KEY)"))
        for table, said in (("gone", "no table"), ("without_key", "no primary key"), ("by_time", "timestamp")):
            with pytest.raises(SetupError, match=said):
                resolve_tables(connection, {table: ("Order",)})


def test_a_log_that_does_not_tell_of_rows_and_another_database_are_refused(postgres: str) -> None:
    engine = create_database_engine(postgres)
    with pytest.raises(SetupError, match="wal_level is replica"):
        WalAudit(engine).start([], limit_mb=0, wait_s=60)
    engine.dispose()
    with pytest.raises(SetupError, match="needs PostgreSQL"):
        WalAudit(create_database_engine("sqlite://"))


def test_the_tables_of_the_models_are_found_by_themselves() -> None:
    found = wanted_of_models()
    assert found["audit_people"] == ("Employee", "Person")
    assert found["audit_employees"] == ("Employee",)
    assert found["audit_orders"] == ("AuditOrder",)
