"""Deliveries on both databases: of those that come at the same time one is stored."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select

from handlers.service import Accepted
from projections.migrate import upgrade
from schemas.events import WebhookRequested
from schemas.identifiers import new_event_id
from streams.capture.outbox import OUTBOX, OutboxSink
from streams.database import create_database_engine
from streams.settings import Settings
from streams.web.inbound_deliveries import DELIVERIES, DeliverySink


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A migrated database."""
    url = f"sqlite:///{tmp_path / 'system.db'}"
    engine = create_database_engine(url if request.param == "sqlite" else request.getfixturevalue("postgres_database"))
    upgrade(engine)
    yield engine
    engine.dispose()


def requested() -> WebhookRequested:
    return WebhookRequested(
        event_id=new_event_id(),
        tenant_id="1",
        endpoint="webhook/order",
        event_type="push",
        trigger="inbound",
        requested_at=1,
        payload="{}",
    )


def test_of_many_at_the_same_time_one_is_stored(engine: Engine, settings: Settings) -> None:
    """Two ids a delivery, as with an id that is not signed; all of them share the second."""
    sink = OutboxSink(engine, settings.catalogue())

    def deliver(number: int) -> Accepted:
        return DeliverySink(sink, 7, (f"sha256:{number % 4}", "d1")).accept(requested())

    with ThreadPoolExecutor(8) as pool:
        answers = {each.event_id for each in pool.map(deliver, range(24))}

    with engine.connect() as connection:
        assert list(connection.execute(select(OUTBOX.c.record_id)).scalars()) == list(answers)
        # All that a signature covers stands for the one event.
        assert set(connection.execute(select(DELIVERIES.c.event_id)).scalars()) == answers
        assert connection.execute(select(func.count()).select_from(DELIVERIES)).scalar_one() == 5


def test_sources_have_ids_of_their_own(engine: Engine, settings: Settings) -> None:
    sink = OutboxSink(engine, settings.catalogue())
    first, other = requested(), requested()
    assert DeliverySink(sink, 7, ("d1",)).accept(first).event_id == first.event_id
    assert DeliverySink(sink, 8, ("d1",)).accept(other).event_id == other.event_id
    assert DeliverySink(sink, 7, ("d1",)).accept(requested()).event_id == first.event_id
