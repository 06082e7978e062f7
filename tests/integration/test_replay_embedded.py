"""A retry and a replay in a house of one process that died by kill -9: each runs the handler once more (R10, R22)."""

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, select

from projections.tables import WEBHOOK_EVENTS
from schemas.events import WebhookRequested, now_micros
from schemas.identifiers import new_event_id
from streams.capture.outbox import OUTBOX, OutboxSink
from tests.support import journal
from tests.support.house import House
from tests.support.load import CONFIGURATION, ENDPOINT, Journal
from tests.support.roles import install_journal
from tests.support.waiting import eventually
from topics.catalogue import build_catalogue

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(400)]

NOBODY_CALLS = {"sequence": 0, "key": 0, "sleep_s": 0, "wait_for": "nobody", "timeout_s": 0.1}


def ask(engine: Engine) -> None:
    """Ask for an event that ends `timed_out`, once it is durable."""
    request = WebhookRequested(
        event_id=new_event_id(),
        tenant_id="1",
        endpoint=ENDPOINT,
        event_type="webhook_journal",
        trigger="manual",
        requested_at=now_micros(),
        payload=orjson.dumps(NOBODY_CALLS).decode(),
    )
    OutboxSink(engine, build_catalogue()).accept(request)


def ended(engine: Engine) -> tuple[Any, ...] | None:
    """Kind, run and attempt of the only event, where it has ended."""
    columns = [WEBHOOK_EVENTS.c[name] for name in ("kind", "run", "attempt", "finished_at")]
    with engine.connect() as connection:
        row = connection.execute(select(*columns)).one_or_none()
    return None if row is None or row.finished_at is None else tuple(row)[:3]


def test_each_lets_the_handler_run_once_more(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.environment[journal.JOURNAL] = str(tmp_path / "journal")
    install_journal(house.beside)
    file = tmp_path / "tenant.json"
    file.write_bytes(orjson.dumps(CONFIGURATION))

    def webhook(*arguments: str) -> str:
        done = house.webhook(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with house.up(kill=True) as engine:
        webhook("tenants", "create", "Journal", "--config", str(file))
        ask(engine)
        eventually(lambda: ended(engine) == ("timed_out", 1, 2), 90)
    # Nothing runs; it is durable all the same.
    [failed] = json.loads(webhook("queue:failed", "--json"))
    webhook("queue:retry", str(failed["number"]))
    with house.up() as engine:
        eventually(lambda: ended(engine) == ("timed_out", 1, 4), 90)
        assert "1 of 1 events replayed" in webhook("replay", "--tenant", "1", "--with-side-effects", "--yes")
        eventually(lambda: ended(engine) == ("timed_out", 2, 2), 90)
        with engine.connect() as connection:
            ids = select(OUTBOX.c.record_id)
            eventually(lambda: connection.execute(ids).all() == [], 60, "no start has to look at them again")
    assert len(Journal(tmp_path / "journal").read().starts) == 3
