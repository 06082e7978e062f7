from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import IntegrityError, OperationalError

from streams.capture.outbox import METADATA, OUTBOX, OutboxRow, append, slice_of
from streams.database import create_database_engine

pytestmark = pytest.mark.postgres

ODD = "a\tb\nc\rd\\e\\N\"'é\\."


@pytest.fixture
def engine(postgres_database: str) -> Iterator[Engine]:
    engine = create_database_engine(postgres_database)
    METADATA.create_all(engine)
    yield engine
    engine.dispose()


def row(record_id: str, tenant_id: str = "1") -> OutboxRow:
    key = f"{tenant_id}|Order|1".encode()
    return OutboxRow("shop.changes", key, bytes(range(256)), "ModelChanged", {"trace": tenant_id}, tenant_id, record_id)


def written(engine: Engine) -> list[OutboxRow]:
    columns = OUTBOX.c
    names = (columns.topic, columns.record_key, columns.payload, columns.record_type, columns.headers)
    with engine.connect() as connection:
        rows = connection.execute(select(*names, columns.tenant_id, columns.record_id).order_by(columns.id)).all()
    return [OutboxRow(*each) for each in rows]


def test_odd_characters_and_all_bytes_come_out_as_they_went_in_and_in_order(engine: Engine) -> None:
    begun = datetime.now(UTC)
    with engine.begin() as connection:
        append(connection, [row("2", ODD), row("1"), row("3", "\\N")])
        append(connection, [OutboxRow("t", b"", b"", "ModelChanged", None, "", "4")])
    found = written(engine)
    assert [(each.record_id, each.tenant_id) for each in found] == [("2", ODD), ("1", "1"), ("3", "\\N"), ("4", "")]
    assert [each.payload for each in found] == [bytes(range(256))] * 3 + [b""]
    assert found[0].record_key == f"{ODD}|Order|1".encode()
    assert found[3].headers is None
    with engine.connect() as connection:
        rows = connection.execute(select(OUTBOX.c.slice, OUTBOX.c.created_at, OUTBOX.c.record_key)).all()
    assert len(rows) == 4
    for number, created_at, key in rows:
        assert (number, created_at.tzinfo is not None) == (slice_of(key), True)
        assert begun <= created_at <= datetime.now(UTC)


def test_they_belong_to_the_connections_transaction_even_where_they_begin_it(engine: Engine) -> None:
    with engine.connect() as connection:
        append(connection, [row("1")])
        connection.rollback()
        append(connection, [row("2")])
        connection.commit()
        savepoint = connection.begin_nested()
        append(connection, [row("3")])
        savepoint.rollback()
        connection.commit()
    assert [each.record_id for each in written(engine)] == ["2"]


def test_errors_are_those_of_sqlalchemy(engine: Engine) -> None:
    with engine.begin() as connection:
        append(connection, [row("1")])
    with pytest.raises(IntegrityError, match="webhook_outbox"), engine.begin() as connection:
        append(connection, [row("1")])
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        with engine.begin() as other:
            number = connection.connection.driver_connection.info.backend_pid  # type: ignore[union-attr]
            other.execute(text("SELECT pg_terminate_backend(:number, 60000)"), {"number": number})
        with pytest.raises(OperationalError) as caught:
            append(connection, [row("2")])
        assert caught.value.connection_invalidated
    assert [each.record_id for each in written(engine)] == ["1"]


def test_a_translated_schema_is_kept(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA shop"))
    tenant = engine.execution_options(schema_translate_map={None: "shop"})
    METADATA.create_all(tenant)
    with tenant.begin() as connection:
        append(connection, [row("1")])
    assert written(engine) == []
    assert [each.record_id for each in written(tenant)] == ["1"]
