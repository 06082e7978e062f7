"""Places orders directly at the vendor, or by the tenant's sidecar where its configuration says so."""

from typing import Any, Protocol

from handlers.contract import Context
from handlers.orders.order import PlacesOrders, order_of
from handlers.results import Completed, Reconciled, Rejected, Result
from handlers.sidecar import Sidecar, require_route
from handlers.upstreams.answers import UpstreamRefused, placing
from schemas.errors import Unknown


class ReconcilesOrders(PlacesOrders, Protocol):
    """A vendor's handler that places an order at most once (R6)."""

    settle_s: float

    async def reconcile(self, payload: dict[str, Any], context: Context) -> Reconciled:
        """Whether the vendor has the order."""


class OrderByTransport:
    """The vendor's own handler, or ``POST orders`` of the sidecar where ``transport`` is ``sidecar``."""

    at_most_once = True

    def __init__(self, direct: ReconcilesOrders) -> None:
        self._direct = direct
        self.settle_s = direct.settle_s
        self.timeout_s: float | None = getattr(direct, "timeout_s", None)

    async def handle(self, payload: dict[str, Any], context: Context) -> Result:
        """Place the order; by the sidecar the result is ``{"status": "placed", "data": what it returned}``.

        Raises ``RouteNotListed`` where the tenant does not list ``POST orders``.
        """
        require_route(context.config, "orders", "POST")
        if context.config.get("transport") != "sidecar":
            return await self._direct.handle(payload, context)
        order = order_of(payload)
        if order.get("order_id") is None:
            return Rejected("Order ID is required", code="invalid_order")
        try:
            with placing(str(order["order_id"])):
                sidecar = Sidecar(context.tenant_id, context.config, context.http)
                data = await sidecar.call("POST", "orders", {"order": order})
        except UpstreamRefused as error:
            return Rejected(str(error), code=error.code)
        return Completed({"status": "placed", "data": data})

    async def reconcile(self, payload: dict[str, Any], context: Context) -> Reconciled:
        """What the vendor's handler finds. A sidecar cannot be asked for a reference: raises ``Unknown``."""
        if context.config.get("transport") != "sidecar":
            return await self._direct.reconcile(payload, context)
        order_id = order_of(payload).get("order_id")
        raise Unknown(
            f"whether the sidecar has placed order {order_id} is not known and it cannot be asked; look for the order "
            "at the vendor, and retry the event only if it is missing",
            code="order_unknown",
        )
