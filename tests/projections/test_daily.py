"""Events by day, tier and type, and in the original product's shape."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import Engine, insert

from projections.backlog import DueCount, count_due
from projections.daily import DailyCount, count_daily
from projections.tables import WEBHOOK_SCHEDULE
from projections.writer import write
from schemas.events import from_datetime
from streams.health.daily import by_date, first_day
from tests.projections.test_fold import ACCEPTED, outcome
from tests.projections.test_writer import EPOCH, records
from topics.tiers import TIERS

TODAY = date(2026, 3, 2)


def test_every_day_and_tier_is_there_the_newest_first_and_zeros_are_filled() -> None:
    counts = [
        DailyCount(TODAY, "webhook-high", "order_created", 3, 1, 1),
        DailyCount(TODAY, "webhook-high", "order_updated", 5, 5, 0),
        DailyCount(TODAY - timedelta(6), "webhook-low", "", 2, 0, 0),
        DailyCount(TODAY - timedelta(7), "webhook-low", "too old", 9, 0, 0),
    ]
    found = by_date(counts, TODAY, 7)
    assert list(found) == [f"2026-0{2 + (day < 3)}-{day:02}" for day in (2, 1, 28, 27, 26, 25, 24)]
    assert all(list(tiers) == list(TIERS) for tiers in found.values())
    high = found["2026-03-02"]["webhook-high"]
    assert high == {
        "dispatched": 8,
        "completed": 6,
        "failed": 1,
        "event_types": {"order_updated": 5, "order_created": 3},
    }
    assert list(high["event_types"]) == ["order_updated", "order_created"]
    assert found["2026-02-24"]["webhook-low"]["dispatched"] == 2
    assert found["2026-02-28"]["webhook-db"] == {"dispatched": 0, "completed": 0, "failed": 0, "event_types": {}}


def test_a_number_of_days_that_is_none_is_refused() -> None:
    assert first_day(TODAY, 1) == TODAY
    with pytest.raises(ValueError, match="from 1 to 366"):
        first_day(TODAY, 0)


def test_events_are_counted_by_the_day_of_utc(engine: Engine) -> None:
    """The last microsecond of a day is of that day, whatever the zone of the database's session."""
    late = from_datetime(datetime(2026, 3, 1, 23, 59, 59, 999_999, UTC))
    accepted = [
        replace(ACCEPTED, event_id=name, accepted_at=late + after, event_type="order_created")
        for name, after in (("e1", 0), ("e2", 1), ("e3", 2), ("e4", -86_400_000_000))
    ]
    ended = [
        outcome("completed", event_id="e2", accepted_at=late + 1),
        outcome("rejected", event_id="e3", accepted_at=late + 2),
    ]
    write(engine, records([*accepted, *ended]), EPOCH)
    with engine.connect() as connection:
        found = count_daily(connection, TODAY - timedelta(1), TODAY)
    assert sorted(found, key=lambda each: each.day) == [
        DailyCount(TODAY - timedelta(1), "webhook-db", "order_created", 1, 0, 0),
        DailyCount(TODAY, "webhook-db", "order_created", 2, 1, 1),
    ]


def test_waits_are_due_or_not_and_what_is_held_or_gone_is_neither(engine: Engine) -> None:
    now = datetime(2026, 3, 2, tzinfo=UTC)
    row: dict[str, object] = {"tier": "webhook-low", "dispatched_at": None, "closed_at": None, "held_by": None}
    waits: list[dict[str, object]] = [
        {"due_at": now - timedelta(seconds=90)},
        {"due_at": now},
        {"due_at": now + timedelta(seconds=1)},
        {"due_at": now, "held_by": "tenant|7"},
        {"due_at": now, "dispatched_at": now},
        {"due_at": now, "closed_at": now},
        {"due_at": now + timedelta(days=1), "tier": "webhook-db"},
    ]
    rows = [{**row, **wait, "schedule_id": str(number)} for number, wait in enumerate(waits)]
    with engine.begin() as connection:
        connection.execute(insert(WEBHOOK_SCHEDULE), rows)
        assert count_due(connection, now) == {
            "webhook-low": DueCount(2, 1, now - timedelta(seconds=90)),
            "webhook-db": DueCount(0, 1, None),
        }
