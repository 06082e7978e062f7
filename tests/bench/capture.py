"""A model with the mixin against the same model without it, on PostgreSQL: what the outbox costs the writer.

Both write the same rows in transactions of one row and of ten, in turn: one transaction of this, then one of that, so
that both meet the same machine. ``ratio`` is the time of a transaction without the mixin by that with it: 0.8 says that
the mixin costs a quarter more. Neither is spared anything: every commit waits for the disk.
"""

import statistics
import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import DateTime, Numeric, String
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from handlers.tenants.current import tenant_context
from projections.migrate import upgrade
from streams.capture.model import WebhookModel
from streams.database import create_database_engine

ROUNDS: Final = 1500
WARM_UP: Final = 100


class Base(DeclarativeBase):
    """Both models."""


class Columns:
    """An order as shops have them."""

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int]
    status: Mapped[str] = mapped_column(String(20))
    total: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    currency: Mapped[str] = mapped_column(String(3))
    reference: Mapped[str] = mapped_column(String(40))
    shipping_address: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    deleted_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class Plain(Columns, Base):
    """Without the mixin."""

    __tablename__ = "bench_plain"


class Tracked(WebhookModel, Columns, Base):
    """With it."""

    __tablename__ = "bench_tracked"


def measure(database_url: str) -> dict[str, dict[str, float]]:
    """Milliseconds of a transaction of both, medians, for one row and for ten."""
    engine = create_database_engine(database_url)
    try:
        upgrade(engine)
        Base.metadata.create_all(engine)
        with tenant_context("1"), Session(engine) as session:
            return {
                "capture_one_row": _pair(session, 1),
                "capture_ten_rows": _pair(session, 10),
            }
    finally:
        Base.metadata.drop_all(engine)
        engine.dispose()


def _pair(session: Session, rows: int) -> dict[str, float]:
    times: dict[type[Any], list[float]] = {Plain: [], Tracked: []}
    for number in range(WARM_UP + ROUNDS):
        # Whoever goes second finds a warmer machine: they take turns in that as well.
        for model in (Plain, Tracked) if number % 2 else (Tracked, Plain):
            taken_s = _transaction(session, model, rows)
            if number >= WARM_UP:
                times[model].append(taken_s)
    plain, tracked = (statistics.median(times[model]) * 1000 for model in (Plain, Tracked))
    return {"ratio": plain / tracked, "plain_ms": plain, "tracked_ms": tracked}


def _transaction(session: Session, model: type[Any], rows: int) -> float:
    begun = time.perf_counter()
    session.add_all(
        [
            model(
                customer_id=number,
                status="pending",
                total=Decimal("1250.50"),
                currency="EUR",
                reference="2026-000123",
                shipping_address="Keizersgracht 1, 1015 CN Amsterdam",
                created_at=datetime.now(UTC),
            )
            for number in range(rows)
        ]
    )
    session.commit()
    return time.perf_counter() - begun
