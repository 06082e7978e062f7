from pathlib import Path

import pytest
from sqlalchemy import func, inspect, select

from handlers.call_backs import call_back_request
from projections.migrate import upgrade
from schemas.codec import decode_as
from schemas.events import WebhookRequested, now_micros
from streams.capture.outbox import METADATA, OUTBOX, SLICES, OutboxSink, OutboxUnavailable, request_row, slice_of
from streams.database import create_database_engine
from topics.catalogue import build_catalogue
from topics.keys import tenant_of_key


def request(event_id: str = "e1", payload: str = "{}") -> WebhookRequested:
    return WebhookRequested(
        event_id=event_id,
        tenant_id="1",
        endpoint="webhook/order",
        event_type="manual_trigger",
        trigger="http",
        requested_at=now_micros(),
        payload=payload,
        model="Order",
        model_id="7",
    )


def test_call_backs_with_one_key_keep_their_order() -> None:
    """The first one counts, also where a broker or an intake stands still between them."""
    first, second, other = (
        request_row(call_back_request(tenant, "order|7", {}, "vendor"), "requests") for tenant in ("1", "1", "2")
    )
    assert first.record_id != second.record_id
    assert first.record_key == second.record_key != other.record_key
    assert tenant_of_key(first.record_key) == "1"


def test_what_is_accepted_is_committed_and_wakes_the_relay(tmp_path: Path) -> None:
    engine = create_database_engine(f"sqlite:///{tmp_path}/a.db")
    METADATA.create_all(engine)
    woken: list[int] = []

    def wake() -> None:
        with engine.connect() as connection:
            woken.append(connection.execute(select(func.count()).select_from(OUTBOX)).scalar_one())

    sink = OutboxSink(engine, build_catalogue("shop"), wake)
    assert sink.accept(request()).event_id == "e1"
    assert woken == [1]
    with engine.connect() as connection:
        row = connection.execute(select(OUTBOX)).mappings().one()
    assert (row["topic"], row["record_key"], row["record_id"]) == ("shop.requests", b"1|Order|7", "e1")
    assert decode_as(WebhookRequested, row["payload"]).endpoint == "webhook/order"
    engine.dispose()


def test_a_request_that_is_repeated_is_stored_once(tmp_path: Path) -> None:
    engine = create_database_engine(f"sqlite:///{tmp_path}/a.db")
    METADATA.create_all(engine)
    sink = OutboxSink(engine, build_catalogue())
    assert sink.accept(request()) == sink.accept(request())
    with engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(OUTBOX)).scalar_one() == 1
    engine.dispose()


@pytest.mark.parametrize("url", ["postgresql://user:hidden@127.0.0.1:1/none", "sqlite:///{path}/empty.db"])
def test_a_database_that_is_away_refuses_by_name(url: str, tmp_path: Path) -> None:
    engine = create_database_engine(url.format(path=tmp_path))
    with pytest.raises(OutboxUnavailable, match="was not stored") as caught:
        OutboxSink(engine, build_catalogue()).accept(request())
    assert "hidden" not in str(caught.value)
    engine.dispose()


def test_the_migration_makes_the_same_tables(tmp_path: Path) -> None:
    made = create_database_engine(f"sqlite:///{tmp_path}/a.db")
    METADATA.create_all(made)
    migrated = create_database_engine(f"sqlite:///{tmp_path}/b.db")
    upgrade(migrated, ["outbox"])
    for table in METADATA.tables:
        shapes = [
            [(column["name"], str(column["type"]), column["nullable"]) for column in inspect(engine).get_columns(table)]
            for engine in (made, migrated)
        ]
        assert shapes[0] == shapes[1]
    made.dispose()
    migrated.dispose()


def test_slices_are_stable_numbers() -> None:
    assert slice_of(b"1|Order|7") == 13
    assert {slice_of(f"1|Order|{number}".encode()) for number in range(1000)} == set(range(SLICES))
