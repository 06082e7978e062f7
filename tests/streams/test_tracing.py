"""The story of an event is told from every table that knows a part of it, in the order in which it happened."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, insert

from projections.migrate import upgrade
from projections.tables import WEBHOOK_ATTEMPTS, WEBHOOK_CALL_BACKS, WEBHOOK_CHANGES
from streams.capture.dedupe import KEYS
from streams.capture.outbox import OUTBOX
from streams.database import create_database_engine
from streams.tracing import trace
from tests.projections.test_waiting import START, event, wait

SECOND = timedelta(seconds=1)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_database_engine(f"sqlite:///{tmp_path}/a.db")
    upgrade(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with engine.begin() as connection:
        yield connection


def change(connection: Connection, change_id: str, events: str = "[]", tenant_id: str = "7") -> None:
    connection.execute(
        insert(WEBHOOK_CHANGES).values(
            occurred_at=START,
            change_id=change_id,
            tenant_id=tenant_id,
            model="Order",
            model_id="12",
            model_event="updated",
            events=events,
            matched_at=START + SECOND,
        )
    )


def story(connection: Connection, asked: str, tenant_id: str | None = None) -> list[str]:
    return [each.what for each in trace(connection, asked, tenant_id)]


def full(connection: Connection) -> None:
    """A change with one event, which was delayed, called back and tried."""
    change(connection, "c1", '["e1"]')
    about = {"trigger": "model", "endpoint": "webhook/order", "event_type": "order_updated", "caused_by": "c1"}
    event(connection, "e1", "completed", model="Order", model_id="12", routing_rule="default", **about)
    wait(
        connection, "e1", kind="wait", created_at=START + 2 * SECOND, dispatched_at=START + 4 * SECOND, call_back_id="x"
    )
    connection.execute(
        insert(WEBHOOK_CALL_BACKS).values(
            received_at=START + 3 * SECOND, call_back_id="x", tenant_id="7", gate="g", payload="{}", recorded_at=START
        )
    )
    connection.execute(
        insert(WEBHOOK_ATTEMPTS).values(
            accepted_at=START,
            event_id="e1",
            run=1,
            step=0,
            attempt=1,
            tenant_id="7",
            kind="completed",
            kind_rank=10,
            handler="OrderHandler",
            worker="w1",
            result='{"id":9}',
            started_at=START + 5 * SECOND,
            finished_at=START + 6 * SECOND,
            recorded_at=START + 7 * SECOND,
        )
    )


WHOLE = ["changed", "accepted", "matched", "scheduled", "called back", "let go", "started", "completed"]


@pytest.mark.parametrize("asked", ["e1", "c1", "Order/12"])
def test_each_name_of_it_leads_to_the_whole_story(connection: Connection, asked: str) -> None:
    full(connection)
    assert story(connection, asked, "7") == WHOLE
    assert story(connection, asked, "8") == []


def test_a_change_that_matched_nothing_says_so(connection: Connection) -> None:
    change(connection, "c1")
    assert [(each.what, each.detail) for each in trace(connection, "c1")] == [
        ("changed", "Order 12 updated"),
        ("matched", "matched no setting: nothing fires"),
    ]


def test_what_has_not_left_the_outbox_is_told_with_what_is_missing(connection: Connection) -> None:
    row = {
        "record_id": "e9",
        "topic": "requests",
        "record_key": b"k",
        "record_type": "WebhookRequested",
        "payload": b"",
        "tenant_id": "7",
        "slice": 0,
        "created_at": START,
    }
    connection.execute(insert(OUTBOX).values(row))
    parked = row | {"record_id": "e8", "parked_at": START + SECOND, "parked_reason": "too large"}
    connection.execute(insert(OUTBOX).values(parked))
    connection.execute(insert(OUTBOX).values(row | {"record_id": "e7", "published_at": START + SECOND}))
    [stored] = trace(connection, "e9")
    assert (stored.what, stored.detail) == (
        "stored",
        "in the outbox as WebhookRequested, not published yet: does the relay run?",
    )
    assert [(each.what, each.detail) for each in trace(connection, "e8")][1:] == [("parked", "too large")]
    assert story(connection, "e7") == ["stored", "published"]
    assert story(connection, "e9", "8") == []


def test_who_waits_and_who_stands_for_others_is_told(connection: Connection) -> None:
    event(connection, "e1", "accepted", trigger="http", requested_by="ada")
    wait(connection, "e1", kind="coalesce", gate="coalesce|7|x")
    connection.execute(
        insert(KEYS).values(
            tenant_id="7",
            endpoint="e",
            key="k",
            event_id="e1",
            created_at=START,
            repeats=19,
            repeated_at=START + SECOND,
        )
    )
    steps = trace(connection, "e1")
    assert [each.what for each in steps] == ["accepted", "scheduled", "repeated", "waiting"]
    assert "by ada" in steps[0].detail
    assert steps[2].detail.startswith("19 triggers alike")
    assert steps[3].detail.startswith("due_at")


def test_what_nobody_knows_has_no_story(connection: Connection) -> None:
    assert trace(connection, "none") == trace(connection, "Order/12") == []
