"""Queries: what they find, in which order, and whose."""

from dataclasses import replace

import pytest
from sqlalchemy import Engine

from projections.queries import EventFilter, attempts_of, counts_by_tier, find_event, recent_events
from projections.writer import write
from schemas.events import to_datetime
from tests.projections.test_fold import ACCEPTED, outcome
from tests.projections.test_writer import EPOCH, records


@pytest.fixture(autouse=True)
def three_events(engine: Engine) -> None:
    """Event e1 of tenant 7 completed at the second try, e2 of tenant 7 pending, e3 of tenant 8 rejected."""
    second = replace(ACCEPTED, event_id="e2", accepted_at=2_000)
    other = replace(ACCEPTED, event_id="e3", accepted_at=3_000, tenant_id="8", tier="webhook-low")
    rejected = outcome("rejected", event_id="e3", accepted_at=3_000, tenant_id="8", tier="webhook-low", error="no")
    done = outcome("completed", attempt=2, started_at=1_600, finished_at=4_600, handler="H", result='{"id":5}')
    write(engine, records([ACCEPTED, outcome("retry"), done, second, other, rejected]), EPOCH)


def test_the_latest_come_first(engine: Engine) -> None:
    with engine.connect() as connection:
        assert [event.event_id for event in recent_events(connection)] == ["e3", "e2", "e1"]
        assert [event.event_id for event in recent_events(connection, limit=1)] == ["e3"]
        assert [
            event.event_id for event in recent_events(connection, EventFilter(statuses=("pending", "completed")))
        ] == [
            "e2",
            "e1",
        ]
        assert [event.event_id for event in recent_events(connection, EventFilter(before=to_datetime(2_000)))] == ["e1"]


@pytest.mark.parametrize(
    ("which", "found"),
    [
        (EventFilter(tier="webhook-low"), ["e3"]),
        (EventFilter(endpoint="webhook/order", since=to_datetime(2_000)), ["e3", "e2"]),
        (EventFilter(error="NO"), ["e3"]),
        (EventFilter(error="timeout"), []),
        (EventFilter(model="Order"), []),
    ],
)
def test_filters_choose(engine: Engine, which: EventFilter, found: list[str]) -> None:
    with engine.connect() as connection:
        assert [event.event_id for event in recent_events(connection, which)] == found


@pytest.mark.parametrize("limit", [0, 1001])
def test_a_limit_out_of_range_is_refused(engine: Engine, limit: int) -> None:
    with engine.connect() as connection, pytest.raises(ValueError, match="must be from 1 to 1000"):
        recent_events(connection, limit=limit)


def test_an_event_is_found_with_its_attempts(engine: Engine) -> None:
    with engine.connect() as connection:
        event = find_event(connection, "e1")
        assert event is not None
        assert (event.status, event.attempts, event.handler, event.result) == ("completed", 2, "H", '{"id":5}')
        # From the first start, which was that of the failed try.
        assert event.duration_ms == pytest.approx(3.1)
        tries = attempts_of(connection, event)
        assert [(each.attempt, each.kind, each.duration_ms) for each in tries] == [
            (1, "retry", 0.4),
            (2, "completed", 3.0),
        ]
        assert find_event(connection, "e9") is None


def test_a_tenant_sees_its_own_only(engine: Engine) -> None:
    with engine.connect() as connection:
        assert [event.event_id for event in recent_events(connection, EventFilter(tenant_id="8"))] == ["e3"]
        assert find_event(connection, "e1", tenant_id="8") is None
        event = find_event(connection, "e1", tenant_id="7")
        assert event is not None
        assert attempts_of(connection, event, tenant_id="8") == []
        assert [(each.tier, each.status) for each in counts_by_tier(connection, tenant_id="8")] == [
            ("webhook-low", "failed_permanently")
        ]


def test_events_are_counted_by_tier_and_status(engine: Engine) -> None:
    with engine.connect() as connection:
        counts = [(each.tier, each.status, each.events) for each in counts_by_tier(connection)]
        assert counts == [
            ("webhook-db", "completed", 1),
            ("webhook-db", "pending", 1),
            ("webhook-low", "failed_permanently", 1),
        ]
        assert len(counts_by_tier(connection, since=to_datetime(3_000))) == 1
