"""What a model says of itself: watched attributes, listeners, inheritance, values that the database makes."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import orjson
import pytest
from sqlalchemy import JSON, Connection, Engine, ForeignKey, String, func, select
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    column_property,
    configure_mappers,
    defer,
    load_only,
    mapped_column,
    relationship,
)
from typing_extensions import override

from handlers.tenants.current import tenant_context
from streams.capture.model import WebhookModel, announce, listen
from tests.streams.capture.captured import changes, kinds, shop_database


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "mappings_customers"

    id: Mapped[int] = mapped_column(primary_key=True)


class Order(WebhookModel, Base):
    __tablename__ = "mappings_orders"
    __webhook_watch__ = ("status", "total", "customer_id")

    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(String(20), default="pending")
    total: Mapped[int] = mapped_column(default=1)
    note: Mapped[str | None]
    document: Mapped[str | None] = mapped_column(deferred=True)
    customer_id: Mapped[int | None] = mapped_column(ForeignKey("mappings_customers.id"))
    customer: Mapped[Customer | None] = relationship()


Order.double = column_property(Order.__table__.c.total * 2)


class Box(WebhookModel, Base):
    __tablename__ = "mappings_boxes"

    id: Mapped[int] = mapped_column(primary_key=True)
    content: Mapped[dict[str, int]] = mapped_column(MutableDict.as_mutable(JSON))


class Employee(WebhookModel, Base):
    __tablename__ = "mappings_employees"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "employee"}  # noqa: RUF012 (mapped classes declare it so)

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str]


class Manager(Employee):
    __tablename__ = "mappings_managers"
    __mapper_args__ = {"polymorphic_identity": "manager"}  # noqa: RUF012 (mapped classes declare it so)

    id: Mapped[int] = mapped_column(ForeignKey("mappings_employees.id"), primary_key=True)
    budget: Mapped[int]


class Trainee(Employee):
    __mapper_args__ = {"polymorphic_identity": "trainee"}  # noqa: RUF012 (mapped classes declare it so)
    __webhook_name__ = "Apprentice"

    year: Mapped[int | None]


class Ticket(WebhookModel, Base):
    """Belongs to the tenant of its own column."""

    __tablename__ = "mappings_tickets"

    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str]

    @override
    def get_webhook_tenant(self) -> str:
        return self.tenant


class Silent(WebhookModel, Base):
    """Announces what it is told to, and nothing else."""

    __tablename__ = "mappings_silent"

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(default=0)
    heard: ClassVar[list[tuple[str, bool]]] = []

    @override
    @classmethod
    def register_webhook_listeners(cls) -> None:
        listen(cls, cls.hear)

    def hear(self, model_event: str, connection: Connection) -> None:
        self.heard.append((model_event, self.was_changed("number")))
        if self.number == 2:
            announce(self, model_event, connection)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with shop_database(tmp_path, Base.metadata) as engine, tenant_context("1"):
        yield engine


def test_only_watched_attributes_make_an_update(engine: Engine) -> None:
    with Session(engine) as session:
        order = Order(id=1)
        session.add(order)
        session.commit()
        order.note = "not watched"
        session.commit()
        order.note, order.status = "again", "paid"
        session.commit()
        session.delete(order)
        session.commit()
    assert [each.model_event for each in changes(engine)] == ["created", "updated", "deleted"]
    assert changes(engine)[1].changed == ["status", "note"]


def test_a_watched_attribute_that_is_not_mapped_is_named() -> None:
    class OtherBase(DeclarativeBase):
        pass

    class Misspelt(WebhookModel, OtherBase):
        __tablename__ = "mappings_misspelt"
        __webhook_watch__ = ("id", "staus")
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(ValueError, match=r"__webhook_watch__ of Misspelt names staus.*its attributes are id"):
        configure_mappers()
    OtherBase.registry.dispose()


def test_each_flush_that_writes_a_row_is_an_event_of_its_own(engine: Engine) -> None:
    with Session(engine) as session:
        order = Order(id=1)
        session.add(order)
        session.flush()
        for status in ("paid", "paid", "sent"):
            order.status = status
            session.flush()
        session.delete(order)
        session.commit()
    assert [(each.model_event, each.previous) for each in changes(engine)] == [
        ("created", None),
        ("updated", '{"status":"pending"}'),
        ("updated", '{"status":"paid"}'),
        ("deleted", None),
    ]


def test_values_that_the_database_works_out_are_in_the_payload(engine: Engine) -> None:
    with Session(engine) as session:
        order = Order(id=1, total=func.abs(-20))
        session.add(order)
        session.commit()
        order.total = Order.total + 1
        session.commit()
    created, updated = changes(engine)
    assert orjson.loads(created.payload)["total"] == 20
    assert orjson.loads(updated.payload)["total"] == 21
    assert orjson.loads(updated.previous or "") == {"total": 20}


def test_an_update_that_the_database_makes_of_nothing_new_is_none(engine: Engine) -> None:
    with Session(engine) as session:
        order = Order(id=1, total=20)
        session.add(order)
        session.commit()
        order.total = Order.total + 0
        session.commit()
    assert kinds(engine) == [("Order", "1", "created")]


def test_a_container_that_is_changed_in_place_is_an_update_whose_old_value_is_not_known(engine: Engine) -> None:
    with Session(engine) as session:
        box = Box(id=1, content={"a": 1})
        session.add(box)
        session.commit()
        box.content["a"] = 2
        session.commit()
    updated = changes(engine)[-1]
    assert (updated.model_event, updated.previous) == ("updated", '{"content":null}')
    assert orjson.loads(updated.payload)["content"] == {"a": 2}


def test_an_object_that_is_set_changes_its_foreign_key(engine: Engine) -> None:
    with Session(engine) as session:
        session.add(Order(id=1))
        session.commit()
        session.get_one(Order, 1).customer = Customer(id=9)
        session.commit()
    assert orjson.loads(changes(engine)[-1].previous or "") == {"customer_id": None}


def test_columns_that_a_query_left_out_are_in_the_payload_and_deferred_ones_are_not(engine: Engine) -> None:
    with Session(engine) as session:
        session.add(Order(id=1, note="kept", document="long"))
        session.commit()
    for number, option in enumerate((load_only(Order.id), defer(Order.note)), start=2):
        with Session(engine) as session:
            session.scalars(select(Order).options(option)).one().total = number
            session.commit()
        payload = orjson.loads(changes(engine)[-1].payload)
        assert payload == {"id": 1, "status": "pending", "total": number, "note": "kept", "customer_id": None}


def test_inherited_mappings_fire_once_and_carry_all_their_columns(engine: Engine) -> None:
    with Session(engine) as session:
        session.add_all(
            [Employee(id=1, name="Ann"), Manager(id=2, name="Bo", budget=5), Trainee(id=3, name="Cy", year=1)]
        )
        session.commit()
    with Session(engine) as session:
        for each in session.scalars(select(Employee).order_by(Employee.id)):
            each.name += "!"
        session.commit()
    with Session(engine) as session:
        session.get_one(Manager, 2).budget = 6
        session.delete(session.get_one(Employee, 3))
        session.commit()
    names = [("Employee", "1"), ("Manager", "2"), ("Apprentice", "3")]
    expected = [(*name, event) for event in ("created", "updated") for name in names]
    assert kinds(engine)[:6] == expected
    assert kinds(engine)[6:] == [("Manager", "2", "updated"), ("Apprentice", "3", "deleted")]
    payload = orjson.loads(changes(engine)[4].payload)
    assert payload == {"id": 2, "kind": "manager", "name": "Bo!", "budget": 5}
    assert orjson.loads(changes(engine)[6].previous or "") == {"budget": 5}


def test_a_model_may_listen_with_functions_of_its_own(engine: Engine) -> None:
    Silent.heard.clear()
    with Session(engine) as session:
        row = Silent(id=1)
        session.add(row)
        session.commit()
        for number in (1, 2):
            row.number = number
            session.commit()
    assert Silent.heard == [("created", False), ("updated", True), ("updated", True)]
    assert kinds(engine) == [("Silent", "1", "updated")]


def test_many_tenants_write_in_one_process_each_as_itself(engine: Engine) -> None:
    def work(tenant: str) -> None:
        with tenant_context(tenant), Session(engine) as session:
            for number in range(20):
                session.add(Order(id=int(tenant) * 100 + number))
                session.commit()

    threads = [threading.Thread(target=work, args=(str(number),)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = changes(engine)
    assert len(found) == 80
    assert {(each.tenant_id, int(each.model_id) // 100) for each in found} == {(str(n), n) for n in range(1, 5)}
    with Session(engine) as session:
        session.add_all([Ticket(id=1, tenant="8"), Ticket(id=2, tenant="9")])
        session.commit()
    assert [each.tenant_id for each in changes(engine)[80:]] == ["8", "9"]
