"""The small print shop of the demonstration: one mapped model, and a day of its business.

It keeps its own journal of what it committed, so that the audit compares the pipeline with the shop and not with
the pipeline's own tables.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import JSON, Engine, Float, String
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from typing_extensions import override

from handlers.tenants.current import tenant_context
from streams.capture.model import WebhookModel

SHOP_NAME: Final = "Print shop (sample)"
ROLLED_BACK_EVERY: Final = 20
CANCELLED_EVERY: Final = 5
DELETED_EVERY: Final = 10


def shop_configuration(upstream_url: str) -> dict[str, Any]:
    """The shop's tenant configuration, for the upstream at ``upstream_url``."""
    return {
        "auth": {"url": upstream_url, "secret": "sample-secret", "client_id": "sample-client"},
        "plugin__v": "2.0.0",
        "plugin_name": "drukwerkdeal.nl",
        "plugin_port": 5000,
        "plugin_routes": [{"route": "orders", "method": "POST"}, {"route": "webhook/order", "method": "POST"}],
        "plugin_route_prefix": "dwd",
        "webhook_settings": [
            {
                "models": ["App\\Models\\Tenants\\Order"],
                "events": ["created", "updated", "deleted"],
                "webhook_endpoint": "webhook/order",
                "target_class": "OrderWebhookHandler",
                "queue_mode": "background",
            }
        ],
    }


class ShopBase(DeclarativeBase):
    """The shop's own tables."""


class Order(WebhookModel, ShopBase):
    """An order of the shop: what it costs decides how urgent its webhook is."""

    __tablename__ = "demo_orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int]
    total: Mapped[float] = mapped_column(Float)
    status: Mapped[str] = mapped_column(String(20))
    items: Mapped[list[dict[str, object]]] = mapped_column(JSON)

    @override
    def get_webhook_priority(self, event: str) -> int:
        if event == "created":
            return 8 if (self.total or 0) > 1000 else 6
        if event == "updated":
            return 9 if self.status == "cancelled" else 5
        return 7

    @override
    def should_trigger_webhook(self, event: str) -> bool:
        return event != "updated" or self.was_changed("status", "total")


@dataclass
class Journal:
    """What the shop committed: (order id, model event) in commit order, and how many orders it rolled back."""

    committed: list[tuple[str, str]] = field(default_factory=list)
    rolled_back: int = 0


def open_shop(engine: Engine) -> None:
    """Create the shop's table, empty."""
    ShopBase.metadata.drop_all(engine)
    ShopBase.metadata.create_all(engine)


def run_shop(engine: Engine, tenant_id: str, orders: int, journal: Journal) -> Iterator[int]:
    """Take ``orders`` orders, yielding the number of each when its business is done.

    Every twentieth is rolled back, every fifth of the others cancelled, every tenth deleted.
    """
    with tenant_context(tenant_id):
        for number in range(1, orders + 1):
            with Session(engine) as session:
                order = Order(
                    id=number,
                    customer_id=number % 97,
                    total=float(number % 40 * 50),
                    status="pending",
                    items=[{"sku": f"FLYER-A{number % 7}", "quantity": 100 + number % 5 * 50}],
                )
                session.add(order)
                if number % ROLLED_BACK_EVERY == 0:
                    session.flush()
                    session.rollback()
                    journal.rolled_back += 1
                    yield number
                    continue
                session.commit()
                journal.committed.append((str(number), "created"))
                if number % CANCELLED_EVERY == 0:
                    order.status = "cancelled"
                    session.commit()
                    journal.committed.append((str(number), "updated"))
                if number % DELETED_EVERY == 0:
                    session.delete(order)
                    session.commit()
                    journal.committed.append((str(number), "deleted"))
            yield number
