"""Retries and replays on PostgreSQL: the same statements on the other database, and two at once on a row's lock."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from projections.migrate import upgrade
from streams.database import create_database_engine
from streams.replay.failed import FailedEvents, FailedFilter
from streams.replay.jobs import Replays
from streams.replay.selection import Selection
from tests.streams.replay.history import CATALOGUE, failed, open_waits, outbox, publish


@pytest.mark.postgres
def test_the_same_on_postgresql(postgres_database: str) -> None:
    engine = create_database_engine(postgres_database)
    upgrade(engine)
    for number in range(12):
        failed(engine, f"e{number:02}", accepted_at=1_000 + number)
    events = FailedEvents(engine, CATALOGUE)
    assert [each.number for each in events.listed(FailedFilter(tenant_id="7", error="ANSWER"), 2)] == [2, 1]
    assert events.retry(events.ids_of(["1", "2"]), by="me").done == ["e10", "e11"]
    publish(engine)
    replays = Replays(engine, CATALOGUE)
    job = replays.create(Selection(tier="webhook-failed", error="answer"), by="me", rate=1000)
    assert job.selected == 10
    with ThreadPoolExecutor(2) as both:
        list(both.map(lambda _: [replays.advance(job.id, 1) for _ in range(8)], range(2)))
    assert (replays.find(job.id).state, replays.find(job.id).replayed) == ("done", 10)
    assert replays.under_way() == 10
    assert len(outbox(engine)) == 20
    publish(engine)
    assert len(open_waits(engine)) == 12
    engine.dispose()
