"""An order as tenants send it, and the one way of placing it that every vendor's order handler follows."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from handlers.contract import Context
from handlers.results import Completed, NotFound, Reconciled, Rejected, Result
from handlers.upstreams.answers import UpstreamRefused, placing

_PLACES_NOTHING: Final = ("_updated", "_deleted", "_restored")


@dataclass(frozen=True, slots=True)
class Item:
    """One line of an order, checked. ``given`` is the tenant's own object."""

    sku: str
    quantity: int
    given: Mapping[str, Any]


def order_of(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """The order's attributes: the payload's own, with those of its ``order`` below them."""
    nested = payload.get("order")
    return {**nested, **payload} if isinstance(nested, dict) else payload


def order_id_of(order: Mapping[str, Any]) -> str:
    """The tenant's own id of an order (``order_id``, else ``id``). Raises ``ValueError`` where it has none."""
    order_id = order.get("order_id", order.get("id"))
    if not isinstance(order_id, str | int) or isinstance(order_id, bool) or not str(order_id).strip():
        raise ValueError("Order ID is required")
    return str(order_id)


def items_of(order: Mapping[str, Any]) -> list[Item]:
    """The order's lines, at least one. Raises ``ValueError`` naming the first that cannot be ordered."""
    items = order.get("items")
    if not isinstance(items, list) or not items:
        raise ValueError(f"order {order_id_of(order)} has no items")
    return [_item(item, number) for number, item in enumerate(items, start=1)]


def _item(item: object, number: int) -> Item:
    if not isinstance(item, dict) or not item.get("sku"):
        raise ValueError(f"Invalid item format: item {number} has no sku")
    quantity = item.get("quantity")
    if isinstance(quantity, bool) or not isinstance(quantity, int) or quantity < 1:
        raise ValueError(f"Invalid item format: the quantity of item {number} must be a whole number, 1 or more")
    return Item(str(item["sku"]), quantity, item)


def address_of(order: Mapping[str, Any], *names: str) -> Mapping[str, Any] | None:
    """The first address the order has under one of these names."""
    return next((order[name] for name in names if isinstance(order.get(name), dict)), None)


def why_not_placed(order: Mapping[str, Any], context: Context) -> Completed | None:
    """The result of an event that places nothing: only a new order is placed, a change must not print it twice."""
    reason = None
    if context.event_type.endswith(_PLACES_NOTHING):
        reason = f"{context.event_type} places no order"
    elif order.get("status") == "cancelled":
        reason = "the order is cancelled"
    return Completed({"status": "not_placed", "reason": reason}) if reason else None


class OrderPlacement(ABC):
    """Places an order, at most once (R6): an upstream takes the same order twice as two orders.

    A vendor's handler says what is sent, and how it is found again.
    """

    at_most_once: ClassVar[bool] = True
    settle_s: float

    async def handle(self, payload: dict[str, Any], context: Context) -> Result:
        """Place the order unless there is nothing to place. Raises ``Unknown`` where it may have been placed."""
        body = await self._request_or_result(payload, context)
        if not isinstance(body, dict):
            return body
        reference = self.reference_of(body)
        try:
            with placing(reference):
                result = await self.place(body, context)
        except UpstreamRefused as error:
            return Rejected(str(error), code=error.code)
        context.log.info("order %s placed", reference)
        return Completed(result)

    async def reconcile(self, payload: dict[str, Any], context: Context) -> Reconciled:
        """Whether the order stands at the upstream under its reference; the result is what ``handle`` returns.

        ``NotFound`` is to be believed only ``settle_s`` after the order was sent.
        """
        body = await self._request_or_result(payload, context)
        if not isinstance(body, dict):
            return body
        found = await self.find(body, context)
        return Completed(found) if found is not None else NotFound()

    async def _request_or_result(
        self, payload: Mapping[str, Any], context: Context
    ) -> dict[str, Any] | Completed | Rejected:
        try:
            return await self.request_of(payload, context)
        except ValueError as error:
            return Rejected(str(error), code="invalid_order")
        except UpstreamRefused as error:
            return Rejected(str(error), code=error.code)

    @abstractmethod
    async def request_of(self, payload: Mapping[str, Any], context: Context) -> dict[str, Any] | Completed | Rejected:
        """The vendor's request, or the result where there is nothing to send.

        Raises ``ValueError`` naming what the payload lacks.
        """

    @abstractmethod
    def reference_of(self, body: Mapping[str, Any]) -> str:
        """Our reference in the vendor's request."""

    @abstractmethod
    async def place(self, body: dict[str, Any], context: Context) -> dict[str, Any]:
        """Send the request once and return the result."""

    @abstractmethod
    async def find(self, body: Mapping[str, Any], context: Context) -> dict[str, Any] | None:
        """The result of a request that was sent before; ``None`` where the vendor's list has no such order."""
