"""An order whose webhook depends on what it holds: none, custom, pipeline or bulk.

The model announces nothing by itself. Once its transaction has everything of the order, and before it commits, the flow
looks at the order and asks for the webhook that fits, in the same transaction: a crash loses both or neither. With
``after_commit`` instead of ``before_commit`` it would run after the commit, and a crash in between would lose it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias

import structlog
from sqlalchemy import JSON, Connection, ForeignKey, Numeric, String
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, object_session, relationship
from typing_extensions import override

from handlers.service import EventSink, PluginService
from streams.capture.model import WebhookModel, listen
from streams.capture.session_sink import SessionSink
from streams.capture.transaction import before_commit

log = structlog.get_logger(__name__)

HandlerKind: TypeAlias = Literal["bulk", "pipeline", "custom"]
MakeService: TypeAlias = Callable[[EventSink], PluginService]

MOST_ITEMS_BY_ITSELF: Final = 10
COMPLEX_FROM_TOTAL: Final = 1000


@dataclass(frozen=True, slots=True)
class Trigger:
    """What is asked for. ``priority`` is 1 to 10, ``None``: the configuration's."""

    endpoint: str
    event_type: str
    priority: int | None = None


TRIGGERS: Final[Mapping[HandlerKind, Trigger]] = {
    "bulk": Trigger("webhook/order/bulk", "order_bulk_processing"),
    "pipeline": Trigger("webhook/order/process", "order_pipeline_processing", 8),
    "custom": Trigger("webhook/order", "order_created_complete"),
}
_UPDATED: Final = Trigger("webhook/order", "order_updated")
_flow: dict[str, MakeService] = {}


def use_service(make: MakeService) -> None:
    """Say how a ``PluginService`` is made that accepts into a sink; once, at the program's start."""
    _flow["service"] = make


def determine_handler(items: int, total: Decimal | None, status: str, is_complex: bool) -> HandlerKind | None:
    """Which webhook fits an order of ``items`` lines; ``None``: none at all."""
    if items == 0:
        return None
    if items > MOST_ITEMS_BY_ITSELF:
        return "bulk"
    if (total or 0) > COMPLEX_FROM_TOTAL or is_complex:
        return "pipeline"
    return "custom" if status == "confirmed" else None


class ExampleBase(DeclarativeBase):
    """Tables of the example."""


class Customer(ExampleBase):
    """Who orders."""

    __tablename__ = "example_customers"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class OrderItem(ExampleBase):
    """A line of an order; one with specifications makes the order complex."""

    __tablename__ = "example_order_items"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("example_orders.id"))
    sku: Mapped[str]
    quantity: Mapped[int]
    specs: Mapped[dict[str, str] | None] = mapped_column(JSON)


class Order(WebhookModel, ExampleBase):
    """An order with a flow of its own."""

    __tablename__ = "example_orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int | None] = mapped_column(ForeignKey("example_customers.id"))
    status: Mapped[str] = mapped_column(String(20), default="pending")
    total: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    customer: Mapped[Customer | None] = relationship()
    items: Mapped[list[OrderItem]] = relationship(cascade="all, delete-orphan", order_by=OrderItem.id)

    @override
    @classmethod
    def register_webhook_listeners(cls) -> None:
        listen(cls, cls.begin_custom_flow)

    def begin_custom_flow(self, model_event: str, _connection: Connection) -> None:
        """Called inside the flush: leaves the rest to the end of the transaction, when all items are there."""
        session = object_session(self)
        if session is None:
            return
        if model_event == "created":
            before_commit(session, self.trigger_when_complete)
        elif model_event == "updated" and self.should_trigger_custom_update():
            before_commit(session, self.trigger_update)

    def should_trigger_custom_update(self) -> bool:
        """Whether a change of the order is worth a webhook."""
        return self.was_changed("status", "total")

    def has_complex_items(self) -> bool:
        """Whether an item has to be made to specifications."""
        return any(item.specs for item in self.items)

    def trigger_when_complete(self, session: Session) -> None:
        """Ask for the webhook that fits the new order."""
        session.refresh(self)
        kind = determine_handler(len(self.items), self.total, self.status, self.has_complex_items())
        if kind is None:
            log.info("no webhook fits the order", order=self.id, items=len(self.items), status=self.status)
            return
        self._trigger(session, TRIGGERS[kind])

    def trigger_update(self, session: Session) -> None:
        """Ask for the webhook of a changed order."""
        self._trigger(session, _UPDATED)

    def build_webhook_payload(self) -> dict[str, Any]:
        """The order in the form that the pipeline's validation wants: ``order_id`` on top, each item with its sku."""
        customer = self.customer
        return {
            "order_id": self.id,
            "order": {
                "id": self.id,
                "customer_id": self.customer_id,
                "status": self.status,
                "total": None if self.total is None else str(self.total),
            },
            "items": [{"sku": each.sku, "quantity": each.quantity, "specs": each.specs or {}} for each in self.items],
            "customer": None if customer is None else {"id": customer.id, "name": customer.name},
            "metadata": {"total_items": len(self.items), "created_complete_at": datetime.now(UTC).isoformat()},
        }

    def _trigger(self, session: Session, trigger: Trigger) -> None:
        plugin = _flow["service"](SessionSink(session)).load(self.get_webhook_tenant())
        options: dict[str, object] = {"model_type": "Order", "model_id": self.id}
        if trigger.priority is not None:
            options["priority"] = trigger.priority
        payload = self.build_webhook_payload()
        result = plugin.trigger_webhook(trigger.endpoint, payload, trigger.event_type, options=options)
        if not result:
            # The order is worth more than its webhook: it is kept, and somebody is told.
            log.error("the order's webhook was refused", order=self.id, reason=result.reason)
