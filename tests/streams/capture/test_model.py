import datetime
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import RFC_4122, UUID

import orjson
import pytest
from sqlalchemy import JSON, DateTime, Engine, ForeignKey, Numeric, String, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from typing_extensions import override

from handlers.tenants.current import NoCurrentTenant, tenant_context
from schemas.codec import decode_as
from schemas.events import ModelChanged
from streams.capture.guard import TrackedSession, UntrackedBulkChange
from streams.capture.model import WebhookModel, webhooks_disabled
from streams.capture.outbox import METADATA, OUTBOX, slice_of
from streams.database import create_database_engine


class Base(DeclarativeBase):
    pass


class Order(WebhookModel, Base):
    __tablename__ = "capture_orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(String(20), default="pending")
    total: Mapped[Decimal] = mapped_column(Numeric(10, 2), default=Decimal("1.50"))
    extra: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    stamp: Mapped[int] = mapped_column(server_default="7", server_onupdate=None)
    deleted_at: Mapped[datetime.datetime | None] = mapped_column(DateTime(timezone=True))
    lines: Mapped[list["Line"]] = relationship(cascade="all, delete-orphan", back_populates="order")

    @override
    def get_webhook_priority(self, event: str) -> int | None:
        return 99 if event == "created" else 0 if event == "deleted" else None

    @override
    def should_trigger_webhook(self, event: str) -> bool:
        return not (event == "updated" and self.was_changed("extra") and not self.was_changed("status", "total"))


class Line(WebhookModel, Base):
    __tablename__ = "capture_lines"
    __webhook_name__ = "OrderLine"

    order_id: Mapped[int] = mapped_column(ForeignKey("capture_orders.id"), primary_key=True)
    number: Mapped[str] = mapped_column(String(20), primary_key=True)
    order: Mapped[Order] = relationship(back_populates="lines")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_database_engine(f"sqlite:///{tmp_path}/shop.db")
    Base.metadata.create_all(engine)
    METADATA.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture(autouse=True)
def _tenant() -> Iterator[None]:
    with tenant_context("1"):
        yield


def changes(engine: Engine) -> list[ModelChanged]:
    with engine.connect() as connection:
        rows = connection.execute(select(OUTBOX.c.payload).order_by(OUTBOX.c.id)).scalars().all()
    return [decode_as(ModelChanged, row) for row in rows]


def kinds(engine: Engine) -> list[tuple[str, str, str]]:
    return [(each.model, each.model_id, each.model_event) for each in changes(engine)]


def test_created_updated_and_deleted_carry_the_row_its_old_values_and_a_clamped_priority(engine: Engine) -> None:
    with Session(engine) as session:
        order = Order(id=5)
        session.add(order)
        session.commit()
        order.status = "paid"
        session.commit()
        assert order.was_changed("total", "status")
        assert not order.was_changed("total")
        assert order.get_previous() == {"status": "pending"}
        session.delete(order)
        session.commit()
    created, updated, deleted = changes(engine)
    assert (created.model, created.model_id, created.tenant_id) == ("Order", "5", "1")
    assert [each.model_event for each in (created, updated, deleted)] == ["created", "updated", "deleted"]
    assert [each.priority for each in (created, updated, deleted)] == [10, None, 1]
    assert orjson.loads(created.payload) == {
        "id": 5,
        "status": "pending",
        "total": "1.50",
        "extra": {},
        "stamp": 7,
        "deleted_at": None,
    }
    assert (created.changed, created.previous) == ([], None)
    assert (updated.changed, orjson.loads(updated.previous or "")) == (["status"], {"status": "pending"})
    assert orjson.loads(deleted.payload)["status"] == "paid"
    assert created.occurred_at < updated.occurred_at < deleted.occurred_at


def test_rows_say_topic_type_key_and_slice(engine: Engine) -> None:
    with Session(engine) as session:
        session.add(Order(id=5))
        session.commit()
    with engine.connect() as connection:
        row = connection.execute(select(OUTBOX)).mappings().one()
    assert row["topic"] == "plugin-webhooks.changes"
    assert (row["record_type"], row["record_key"], row["tenant_id"]) == ("ModelChanged", b"1|Order|5", "1")
    assert row["slice"] == slice_of(b"1|Order|5")
    assert row["published_at"] is None


def test_a_change_has_a_uuid_that_begins_with_its_time(engine: Engine) -> None:
    with Session(engine) as session:
        session.add_all([Order(id=number) for number in range(20)])
        session.commit()
    found = [(UUID(each.change_id), each.occurred_at) for each in changes(engine)]
    assert {(each.version, each.variant) for each, _ in found} == {(7, RFC_4122)}
    assert [each.int >> 80 for each, _ in found] == [occurred_at // 1000 for _, occurred_at in found]
    assert len({each for each, _ in found}) == 20


def test_a_save_without_change_fires_nothing(engine: Engine) -> None:
    with Session(engine) as session:
        order = Order(id=5, status="paid")
        session.add(order)
        session.commit()
        order.status = "paid"
        order.total = Decimal("1.50")
        session.commit()
    assert kinds(engine) == [("Order", "5", "created")]


def test_an_expired_attribute_that_is_set_still_has_its_old_value(engine: Engine) -> None:
    with Session(engine) as session:
        session.add(Order(id=5))
        session.commit()
    with Session(engine) as session:
        order = session.get_one(Order, 5)
        session.expire(order)
        order.status = "paid"
        session.commit()
    updated = changes(engine)[-1]
    assert orjson.loads(updated.previous or "") == {"status": "pending"}
    assert orjson.loads(updated.payload)["total"] == "1.50"


def test_an_expired_row_is_loaded_before_it_is_deleted(engine: Engine) -> None:
    with Session(engine) as session:
        order = Order(id=5)
        session.add(order)
        session.commit()
        session.delete(order)
        session.commit()
    assert orjson.loads(changes(engine)[-1].payload)["status"] == "pending"


def test_what_a_savepoint_or_the_root_rolls_back_leaves_nothing(engine: Engine) -> None:
    with Session(engine) as session:
        session.add(Order(id=1))
        session.flush()
        savepoint = session.begin_nested()
        session.add(Order(id=2))
        session.flush()
        savepoint.rollback()
        with session.begin_nested():
            session.add(Order(id=3))
        session.commit()
    with Session(engine) as session:
        with session.begin_nested():
            session.add(Order(id=4))
        session.rollback()
    assert kinds(engine) == [("Order", "1", "created"), ("Order", "3", "created")]


def test_a_failed_flush_leaves_nothing_behind_for_the_next(engine: Engine) -> None:
    with Session(engine) as session:
        session.add(Line(order_id=404, number="1"))
        with pytest.raises(Exception, match="FOREIGN KEY"):
            session.flush()
        session.rollback()
        session.add(Order(id=1))
        session.commit()
    assert kinds(engine) == [("Order", "1", "created")]


def test_orphans_and_composite_keys(engine: Engine) -> None:
    with Session(engine) as session:
        order = Order(id=1, lines=[Line(number="a,b"), Line(number="c")])
        session.add(order)
        session.commit()
        order.lines.remove(order.lines[0])
        session.commit()
    assert kinds(engine) == [
        ("Order", "1", "created"),
        ("OrderLine", "1,a%2Cb", "created"),
        ("OrderLine", "1,c", "created"),
        ("OrderLine", "1,a%2Cb", "deleted"),
    ]


def test_soft_delete_and_restore(engine: Engine) -> None:
    with Session(engine) as session:
        order = Order(id=1)
        session.add(order)
        session.commit()
        order.deleted_at = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
        session.commit()
        order.deleted_at = None
        session.commit()
    assert [each[2] for each in kinds(engine)] == ["created", "deleted", "restored"]


def test_the_model_and_the_block_can_switch_it_off(engine: Engine) -> None:
    with Session(engine) as session:
        order = Order(id=1)
        session.add(order)
        session.commit()
        order.extra = {"note": "hello"}
        session.commit()
        with webhooks_disabled():
            order.status = "paid"
            session.commit()
        order.status = "sent"
        session.commit()
    assert [each.previous for each in changes(engine)] == [None, '{"status":"paid"}']


def test_outside_any_tenant_the_flush_fails_by_name(engine: Engine) -> None:
    from handlers.tenants.current import current_tenant

    token = current_tenant.set(None)
    try:
        with Session(engine) as session:
            session.add(Order(id=1))
            with pytest.raises(NoCurrentTenant, match="a change of Order"):
                session.commit()
    finally:
        current_tenant.reset(token)
    with engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(Order)).scalar_one() == 0


def test_bulk_statements_on_tracked_models_are_refused_unless_handled(engine: Engine) -> None:
    with TrackedSession(engine) as session:
        for statement in (insert(Order).values(id=1), update(Order).values(status="x"), delete(Order)):
            with pytest.raises(UntrackedBulkChange, match="on Order"):
                session.execute(statement)
        session.execute(update(Order).values(status="x").execution_options(outbox="handled"))
        session.execute(update(Order).values(status="x"), execution_options={"outbox": "handled"})
        with pytest.raises(UntrackedBulkChange):
            session.bulk_insert_mappings(Order, [{"id": 1}])
        with pytest.raises(UntrackedBulkChange):
            session.bulk_update_mappings(Order, [{"id": 1}])
        with pytest.raises(UntrackedBulkChange):
            session.bulk_save_objects([Order(id=1)])
        session.execute(OUTBOX.delete())


async def test_an_asynchronous_session_writes_in_its_transaction(engine: Engine) -> None:
    asynchronous = create_async_engine(f"sqlite+aiosqlite:///{engine.url.database}")
    make = async_sessionmaker(asynchronous)
    async with make() as session:
        session.add(Order(id=1))
        await session.commit()
        session.add(Order(id=2))
        await session.flush()
        await session.rollback()
    await asynchronous.dispose()
    assert kinds(engine) == [("Order", "1", "created")]


def test_an_attribute_without_a_json_form_is_named(engine: Engine) -> None:
    class Odd(WebhookModel, Base):
        __tablename__ = "capture_odd"
        id: Mapped[int] = mapped_column(primary_key=True)

        @override
        def get_webhook_payload(self) -> dict[str, Any]:
            return {"odd": object()}

    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Odd(id=1))
        with pytest.raises(TypeError, match="an attribute of Odd cannot be written as JSON"):
            session.flush()
