"""While too much waits to be published nothing more is taken; what is published makes room."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, update

from schemas.events import WebhookRequested, now_micros
from schemas.identifiers import new_event_id
from streams.capture.backlog import Backlog
from streams.capture.outbox import METADATA, OUTBOX, OutboxSink, OutboxUnavailable
from streams.database import create_database_engine
from streams.settings import Settings


class Clock:
    """A clock that is set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_database_engine(f"sqlite:///{tmp_path / 'outbox.db'}")
    METADATA.create_all(engine)
    yield engine
    engine.dispose()


def request() -> WebhookRequested:
    return WebhookRequested(
        event_id=new_event_id(),
        tenant_id="1",
        endpoint="webhook/order",
        event_type="x",
        trigger="http",
        requested_at=now_micros(),
        payload="{}",
    )


def test_at_the_limit_nothing_more_is_taken_until_something_is_published(engine: Engine, settings: Settings) -> None:
    clock = Clock()
    sink = OutboxSink(engine, settings.catalogue(), is_full=Backlog(engine, 3, clock).is_full)
    for _ in range(3):
        sink.accept(request())
    # It is not counted each time.
    sink.accept(request())
    clock.now += 2
    with pytest.raises(OutboxUnavailable, match="too much waits to be published"):
        sink.accept(request())

    with engine.begin() as connection:
        connection.execute(update(OUTBOX).where(OUTBOX.c.id <= 2).values(published_at=datetime.now(UTC)))
    with pytest.raises(OutboxUnavailable):
        sink.accept(request())
    clock.now += 2
    sink.accept(request())


def test_nought_is_no_limit(engine: Engine) -> None:
    assert not Backlog(engine, 0).is_full()


def test_a_database_that_is_away_is_told_as_such(engine: Engine, settings: Settings) -> None:
    sink = OutboxSink(engine, settings.catalogue(), is_full=Backlog(engine, 3).is_full)
    METADATA.drop_all(engine)
    with pytest.raises(OutboxUnavailable, match="try again when the database is back"):
        sink.accept(request())
