"""``webhook migrate`` and ``webhook events`` on a SQLite database."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from projections.queries import recent_events
from projections.records import Fact, LogRecord
from projections.writer import write
from streams.cli.events import StatusChanges, events
from streams.cli.migrate import migrate
from streams.database import create_database_engine
from streams.errors import SetupError
from tests.projections.test_fold import ACCEPTED, outcome
from tests.projections.test_writer import EPOCH, records

app = typer.Typer()
app.command("migrate")(migrate)
app.command("events")(events)


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The configured database, empty."""
    url = f"sqlite:///{tmp_path / 'views.db'}"
    monkeypatch.setenv("WEBHOOK_DATABASE_URL", url)
    monkeypatch.setenv("WEBHOOK_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "120")
    return url


def test_check_exits_1_until_the_database_is_migrated(url: str) -> None:
    runner = CliRunner()
    checked = runner.invoke(app, ["migrate", "--check"])
    assert checked.exit_code == 1
    assert "Run `webhook migrate`" in checked.output
    applied = runner.invoke(app, ["migrate", "--json"])
    assert applied.exit_code == 0
    assert set(json.loads(applied.output)["applied"]) == {"system", "projections", "outbox"}
    assert runner.invoke(app, ["migrate", "--check"]).exit_code == 0
    assert json.loads(runner.invoke(app, ["migrate", "--json"]).output)["applied"] == {}


def test_one_branch_of_another_database(url: str, tmp_path: Path) -> None:
    shop = f"sqlite:///{tmp_path / 'shop.db'}"
    runner = CliRunner()
    ran = runner.invoke(app, ["migrate", "--only", "outbox", "--database-url", shop, "--json"])
    assert json.loads(ran.output)["current"] == {"outbox": "outbox_0001"}
    assert runner.invoke(app, ["migrate", "--check"]).exit_code == 1


def test_a_database_that_cannot_be_reached_is_named_without_its_password() -> None:
    nowhere = "postgresql://shop:secret@127.0.0.1:1/shop"
    failed = CliRunner().invoke(app, ["migrate", "--database-url", nowhere])
    assert isinstance(failed.exception, SetupError)
    assert "shop:***@127.0.0.1:1/shop" in failed.exception.message
    assert "secret" not in str(failed.exception)


def test_events_are_listed_newest_first(url: str) -> None:
    runner = CliRunner()
    runner.invoke(app, ["migrate"])
    assert "No events yet" in runner.invoke(app, ["events"]).output
    engine = create_database_engine(url)
    write(engine, records([ACCEPTED, outcome("rejected", error="wrong \x1b[31msku\nmore")]), EPOCH)
    engine.dispose()
    shown = runner.invoke(app, ["events"]).output
    assert "failed_permanently" in shown
    assert "wrong \\x1b[31msku" in shown
    assert "\x1b" not in shown
    listed = json.loads(runner.invoke(app, ["events", "--limit", "5", "--json"]).output)
    assert [(event["event_id"], event["tier"], event["attempts"]) for event in listed] == [("e1", "webhook-db", 1)]
    assert json.loads(runner.invoke(app, ["events", "--json", "--tenant", "8"]).output) == []
    assert json.loads(runner.invoke(app, ["events", "--json", "--status", "pending"]).output) == []


def test_an_unmigrated_database_is_refused(url: str) -> None:
    refused = CliRunner().invoke(app, ["events"])
    assert isinstance(refused.exception, SetupError)
    assert "webhook migrate" in refused.exception.hint


def test_only_what_is_new_or_has_changed_follows(url: str) -> None:
    CliRunner().invoke(app, ["migrate"])
    engine = create_database_engine(url)
    changes = StatusChanges()

    def follow(*facts: Fact) -> list[tuple[str, str]]:
        write(engine, [LogRecord("events", 0, next(offsets), fact) for fact in facts], EPOCH)
        with engine.connect() as connection:
            return [(event.event_id, event.status) for event in changes.of(recent_events(connection))]

    offsets = iter(range(100))
    later = replace(ACCEPTED, event_id="e2", accepted_at=2_000)
    assert follow(ACCEPTED) == [("e1", "pending")]
    assert follow() == []
    assert follow(later, outcome("rejected")) == [("e1", "failed_permanently"), ("e2", "pending")]
    assert follow(replace(ACCEPTED, event_id="e0", accepted_at=500)) == [], "it is older than what was shown first"
    engine.dispose()
