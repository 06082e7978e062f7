"""``webhook metrics`` and ``WebhookQueueService.get_queue_metrics`` on a SQLite database."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from projections.records import Fact
from projections.writer import write
from schemas.events import now_micros
from streams.cli.main import app
from streams.database import create_database_engine
from streams.health.service import WebhookQueueService
from tests.projections.test_fold import ACCEPTED
from tests.projections.test_writer import EPOCH, records
from topics.tiers import TIERS


@pytest.fixture
def events(place: Path) -> None:
    """Two events of today in one tier."""
    engine = create_database_engine(f"sqlite:///{place / 'system.db'}")
    found: list[Fact] = [
        replace(ACCEPTED, event_id=each, accepted_at=now_micros(), event_type="order_created") for each in "ab"
    ]
    write(engine, records(found), EPOCH)
    engine.dispose()


@pytest.mark.usefixtures("events")
def test_days_and_tiers_are_counted() -> None:
    shown = CliRunner().invoke(app, ["metrics", "--days=7"])
    assert shown.exit_code == 0, shown.output
    assert "webhook-db" in shown.output
    assert "order_created 2" in shown.output
    assert "webhook-high" not in shown.output
    told = json.loads(CliRunner().invoke(app, ["metrics", "--days=7", "--json"]).stdout)
    assert (len(told), list(told)) == (7, sorted(told, reverse=True))
    assert list(told[max(told)]) == list(TIERS)
    assert told == WebhookQueueService().get_queue_metrics(7)
    one = json.loads(CliRunner().invoke(app, ["metrics", "--tier", "low", "--json"]).stdout)
    assert [list(tiers) for tiers in one.values()] == [["webhook-low"]] * 7


@pytest.mark.usefixtures("events")
def test_they_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_QUEUE_MONITORING", "false")
    assert "WEBHOOK_QUEUE_MONITORING" in CliRunner().invoke(app, ["metrics"]).output
    assert WebhookQueueService().get_queue_metrics() == {}


@pytest.mark.usefixtures("place")
def test_without_events_it_says_so() -> None:
    assert "No event was accepted in the last 7 days." in CliRunner().invoke(app, ["metrics"]).output
