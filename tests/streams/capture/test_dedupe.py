"""Triggers that are alike are one event, until it has ended or for a time."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, func, inspect, select, update
from sqlalchemy.orm import Session

from projections.migrate import upgrade
from projections.tables import WEBHOOK_EVENTS
from schemas.events import WebhookRequested
from streams.capture.dedupe import KEYS, METADATA, prune, repeats_of
from streams.capture.outbox import OUTBOX, OutboxSink
from streams.capture.session_sink import SessionSink
from streams.database import create_database_engine
from tests.streams.capture.test_outbox import request
from topics.catalogue import build_catalogue

CATALOGUE = build_catalogue()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    url = request.getfixturevalue("postgres_database") if request.param == "postgres" else f"sqlite:///{tmp_path}/a.db"
    engine = create_database_engine(url)
    upgrade(engine)
    yield engine
    engine.dispose()


def alike(event_id: str, key: str = "order-7", for_s: int | None = None, **values: Any) -> WebhookRequested:
    asked = request(event_id)
    for name, value in values.items():
        setattr(asked, name, value)
    asked.options = {"dedupe_key": key} | ({} if for_s is None else {"dedupe_for_s": str(for_s)})
    return asked


def stored(engine: Engine) -> int:
    with engine.connect() as connection:
        count: int = connection.execute(select(func.count()).select_from(OUTBOX)).scalar_one()
    return count


def history(engine: Engine, event_id: str, kind: str) -> None:
    now = datetime.now(UTC)
    state = {"status": "completed", "kind": kind, "kind_rank": 1, "run": 1, "step": 0, "attempt": 1, "dispatch_seq": 1}
    with engine.begin() as connection:
        row = {"accepted_at": now, "event_id": event_id, "tenant_id": "1", "updated_at": now, **state}
        connection.execute(WEBHOOK_EVENTS.insert(), [row])


def test_of_twenty_at_once_one_is_stored_and_all_are_answered_with_it(engine: Engine) -> None:
    sink = OutboxSink(engine, CATALOGUE)
    with ThreadPoolExecutor(20) as pool:
        ids = set(pool.map(lambda number: sink.accept(alike(f"e{number}")).event_id, range(20)))
    assert len(ids) == 1
    assert stored(engine) == 1
    with engine.connect() as connection:
        assert repeats_of(connection, ids.pop())[0] == 19


def test_a_key_is_its_tenants_and_its_endpoints(engine: Engine) -> None:
    sink = OutboxSink(engine, CATALOGUE)
    sink.accept(alike("e0"))
    assert sink.accept(alike("e1", tenant_id="2")).event_id == "e1"
    assert sink.accept(alike("e2", endpoint="webhook/other")).event_id == "e2"
    assert sink.accept(alike("e3", key="order-8")).event_id == "e3"
    assert sink.accept(request("e4")).event_id == "e4"


def test_a_key_is_free_once_its_event_has_ended(engine: Engine) -> None:
    sink = OutboxSink(engine, CATALOGUE)
    sink.accept(alike("e0"))
    history(engine, "e0", "started")
    assert sink.accept(alike("e1")).event_id == "e0"
    with engine.begin() as connection:
        connection.execute(update(WEBHOOK_EVENTS).values(kind="completed"))
    assert [sink.accept(alike(each)).event_id for each in ("e2", "e3")] == ["e2", "e2"]


def test_a_key_with_a_time_is_free_after_it_and_no_sooner(engine: Engine) -> None:
    sink = OutboxSink(engine, CATALOGUE)
    sink.accept(alike("e0", for_s=3600))
    history(engine, "e0", "completed")
    assert sink.accept(alike("e1", for_s=3600)).event_id == "e0"
    with engine.begin() as connection:
        connection.execute(update(KEYS).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    assert sink.accept(alike("e2", for_s=3600)).event_id == "e2"


def test_an_event_that_was_given_up_holds_its_key_for_a_day(engine: Engine) -> None:
    sink = OutboxSink(engine, CATALOGUE)
    sink.accept(alike("e0"))
    with engine.begin() as connection:
        connection.execute(update(KEYS).values(created_at=datetime.now(UTC) - timedelta(days=1, hours=1)))
    assert sink.accept(alike("e1")).event_id == "e1"


def test_a_request_that_was_answered_before_stands_for_no_other(engine: Engine) -> None:
    """An idempotency key that is known: the same answer, though what was alike has ended since."""
    sink = OutboxSink(engine, CATALOGUE)
    assert sink.accept(alike("e1"), lambda _connection, _answer: "e0").event_id == "e0"
    assert stored(engine) == 0
    assert sink.accept(alike("e2")).event_id == "e2"


def test_what_an_idempotency_key_keeps_is_the_first_ones_id(engine: Engine) -> None:
    sink = OutboxSink(engine, CATALOGUE)
    sink.accept(alike("e0"))
    kept: list[str] = []

    def claim(_connection: object, answer: str) -> str:
        kept.append(answer)
        return answer

    assert sink.accept(alike("e1"), claim).event_id == "e0"
    assert (kept, stored(engine)) == (["e0"], 1)


def test_keys_that_have_been_free_for_long_are_forgotten(engine: Engine) -> None:
    sink = OutboxSink(engine, CATALOGUE)
    for event_id, for_s in (("ended", None), ("open", None), ("over", 5), ("holds", 3600 * 24 * 30)):
        sink.accept(alike(event_id, key=event_id, for_s=for_s))
    history(engine, "ended", "completed")
    history(engine, "open", "started")
    ago = timedelta(days=8)
    with engine.begin() as connection:
        for row in connection.execute(select(KEYS)).all():
            times = {"created_at": row.created_at - ago, "expires_at": row.expires_at and row.expires_at - ago}
            connection.execute(update(KEYS).where(KEYS.c.key == row.key).values(times))
    assert prune(engine) == 2
    with engine.connect() as connection:
        assert set(connection.execute(select(KEYS.c.key)).scalars()) == {"open", "holds"}


def test_a_sessions_own_database_keeps_no_keys() -> None:
    with pytest.raises(ValueError, match="system's database"), Session() as session:
        SessionSink(session).accept(alike("e0"))


def test_the_migration_makes_what_the_table_says(engine: Engine) -> None:
    described = inspect(engine)
    [table] = METADATA.tables.values()
    assert {each["name"] for each in described.get_columns(table.name)} == set(table.c.keys())
    assert {each["name"] for each in described.get_indexes(table.name)} == {each.name for each in table.indexes}
