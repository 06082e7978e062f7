"""Events alike at an embedded start: whom the lost log ended ends again, what comes is later than what was (R22)."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert, select

from projections.migrate import upgrade
from projections.records import LogRecord, Scheduled
from projections.tables import WEBHOOK_EVENTS, WEBHOOK_SCHEDULE
from projections.writer import write
from schemas.events import to_datetime
from streams.agents.coalescing import KIND
from streams.agents.waiting import waiting_task
from streams.capture.gates import FixedLimits
from streams.capture.schedule_feed import ScheduleFeed
from streams.database import create_database_engine
from streams.recovery import recover
from tests.streams.engine.workload import task_ready
from tests.streams.test_recovery import CATALOGUE, event
from topics.gates import coalesce_gate

AT = 1_790_000_000_000_000


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_database_engine(f"sqlite:///{tmp_path}/webhook.db")
    upgrade(engine)
    yield engine
    engine.dispose()


def come(engine: Engine, event_id: str, place: int, log: str = "log") -> None:
    """An event alike, accepted and in the schedule."""
    waits = waiting_task(
        task_ready(event_id, accepted_at=AT), KIND, "webhook-high", CATALOGUE.topic("webhook-high"), AT, AT
    )
    waits.gate = coalesce_gate("1", "orders", "1|Order|7")
    write(engine, [LogRecord(log, 0, place, Scheduled(waits, b"key", place))], "epoch")
    with engine.begin() as connection:
        connection.execute(insert(WEBHOOK_EVENTS), [event(event_id, "accepted", accepted_at=to_datetime(AT))])


def test_the_relays_decisions_of_a_lost_log_are_made_again_and_hold_for_what_comes(engine: Engine) -> None:
    come(engine, "e0", 500)
    come(engine, "e1", 501)
    feed = ScheduleFeed(CATALOGUE, FixedLimits())
    with engine.connect() as connection:
        rows = [feed.record(row).row for row in feed.read(connection, 10, ())]
    with engine.begin() as connection:
        feed.mark(connection, rows)
        recover(connection, CATALOGUE)
        places = connection.execute(select(WEBHOOK_SCHEDULE.c.log_offset)).scalars().all()
    assert max(places) < 0
    come(engine, "e2", 0, "new log")
    with engine.connect() as connection:
        records = [(record := feed.record(row)).row + record.topic for row in feed.read(connection, 10, ())]
    tier, events = CATALOGUE.topic("webhook-high"), CATALOGUE.events
    assert records == [f"e2|1|0|1|1{tier}", f"e1|1|0|1|1{events}", f"e0|1|0|1|1{events}"]
