from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from sqlalchemy import Engine, Table, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from typing_extensions import override

from handlers.tenants.current import tenant_context
from streams.capture.bulk import bulk_update
from streams.capture.guard import UntrackedBulkChange
from streams.capture.model import WebhookModel
from streams.capture.outbox import OUTBOX
from tests.streams.capture.captured import changes, kinds, shop_database


class Base(DeclarativeBase):
    pass


class Item(WebhookModel, Base):
    __tablename__ = "bulk_items"

    shop: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    price: Mapped[int] = mapped_column(default=10)

    @override
    def should_trigger_webhook(self, event: str) -> bool:
        return not self.was_changed("price") or self.get_previous()["price"] != 13


class Plain(Base):
    __tablename__ = "bulk_plain"

    id: Mapped[int] = mapped_column(primary_key=True)


ITEMS: Table = Item.metadata.tables["bulk_items"]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with shop_database(tmp_path, Base.metadata) as engine, tenant_context("1"):
        with Session(engine) as session:
            session.add_all([Item(shop="a", number=number, price=10 + number) for number in range(5)])
            session.commit()
            session.execute(OUTBOX.delete())
            session.commit()
        yield engine


def test_every_row_of_a_bulk_update_is_announced_with_its_old_values(engine: Engine) -> None:
    with Session(engine) as session:
        loaded = session.get_one(Item, ("a", 4))
        assert bulk_update(session, update(Item).where(Item.price > 11).values(price=Item.price * 2)) == 3
        assert loaded.price == 28
        assert loaded.was_changed("price")
        session.commit()
    found = changes(engine)
    assert [(each.model_id, each.model_event, each.previous) for each in found] == [
        ("a,2", "updated", '{"price":12}'),
        ("a,4", "updated", '{"price":14}'),
    ]
    assert orjson.loads(found[0].payload) == {"shop": "a", "number": 2, "price": 24}


def test_rows_that_stay_as_they_are_fire_nothing_and_a_rollback_leaves_nothing(engine: Engine) -> None:
    with Session(engine) as session:
        assert bulk_update(session, update(Item).values(price=11)) == 5
        session.rollback()
        assert bulk_update(session, update(Item).where(Item.number == 1).values(price=11)) == 1
        session.commit()
    assert kinds(engine) == []


def test_what_the_session_holds_is_written_first(engine: Engine) -> None:
    with Session(engine) as session:
        session.add(Item(shop="b", number=1, price=1))
        bulk_update(session, update(Item).where(Item.price == 1).values(price=2))
        session.commit()
    assert [(each.model_id, each.model_event) for each in changes(engine)] == [("b,1", "created"), ("b,1", "updated")]


def test_more_rows_than_one_statement_takes(engine: Engine) -> None:
    with Session(engine) as session:
        session.add_all([Item(shop="c", number=number, price=1) for number in range(1200)])
        session.commit()
        bulk_update(session, update(Item).where(Item.shop == "c").values(price=2))
        session.commit()
    updated = [each.model_id for each in changes(engine) if each.model_event == "updated"]
    assert updated == [f"c,{number}" for number in range(1200)]


async def test_an_asynchronous_session_runs_it_too(engine: Engine) -> None:
    asynchronous = create_async_engine(f"sqlite+aiosqlite:///{engine.url.database}")
    async with AsyncSession(asynchronous) as session:
        assert await session.run_sync(bulk_update, update(Item).where(Item.number == 0).values(price=0)) == 1
        await session.commit()
    await asynchronous.dispose()
    assert kinds(engine) == [("Item", "a,0", "updated")]


def test_only_an_update_of_a_tracked_model_is_taken(engine: Engine) -> None:
    with Session(engine) as session:
        for statement in (update(Plain).values(id=1), update(ITEMS).values(price=1)):
            with pytest.raises(TypeError, match="an UPDATE of a tracked model"):
                bulk_update(session, statement)


def test_statements_on_a_tracked_models_table_are_refused_too(engine: Engine) -> None:
    with Session(engine) as session:
        for statement in (ITEMS.insert().values(shop="x", number=1), update(ITEMS).values(price=1), delete(ITEMS)):
            with pytest.raises(UntrackedBulkChange, match=r"on Item changes rows .* take streams\.capture\.bulk"):
                session.execute(statement)
        session.execute(delete(ITEMS).execution_options(outbox="handled"))
        session.execute(insert(Plain).values(id=1))
        assert session.execute(select(func.count()).select_from(Item)).scalar_one() == 0


def test_a_primary_key_is_not_changed_in_bulk(engine: Engine) -> None:
    with Session(engine) as session, pytest.raises(ValueError, match="the primary key of Item"):
        bulk_update(session, update(Item).where(Item.number == 1).values(number=77))
