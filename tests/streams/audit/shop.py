"""A shop on PostgreSQL: an ordinary tracked table, one with a key of two columns, and one that inherits its mapping."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from handlers.tenants.current import tenant_context
from streams.capture.model import WebhookModel
from streams.capture.outbox import METADATA

TABLES = ("audit_orders=AuditOrder", "audit_lines=Line", "audit_people=Person,Employee", "audit_employees=Employee")


class Base(DeclarativeBase):
    pass


class AuditOrder(WebhookModel, Base):
    __tablename__ = "audit_orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(default="new")


class Line(WebhookModel, Base):
    __tablename__ = "audit_lines"

    place: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    amount: Mapped[int] = mapped_column(default=1)


class Person(WebhookModel, Base):
    __tablename__ = "audit_people"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}  # noqa: RUF012 (SQLAlchemy's own declaration)


class Employee(Person):
    __tablename__ = "audit_employees"

    id: Mapped[int] = mapped_column(ForeignKey("audit_people.id"), primary_key=True)
    desk: Mapped[str]
    __mapper_args__ = {"polymorphic_identity": "employee"}  # noqa: RUF012 (SQLAlchemy's own declaration)


def create_tables(engine: Engine) -> None:
    """The shop's tables and an outbox."""
    Base.metadata.create_all(engine)
    METADATA.create_all(engine)


@contextmanager
def session_of(engine: Engine) -> Iterator[Session]:
    """A session of tenant 1."""
    with tenant_context("1"), Session(engine) as session:
        yield session
