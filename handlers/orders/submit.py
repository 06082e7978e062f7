"""Last step of an order's pipeline: the transformed order goes to the vendor."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from handlers.contract import Context
from handlers.orders.order import Hook, PlacesOrders, order_of, run_hook
from handlers.results import Completed, Reconciled, Result
from schemas.errors import Unknown


class OrderSubmitHandler:
    """Places the order that the step before has transformed, or the payload's own where none has.

    ``confirmation`` is run after the order where ``processing_options.send_confirmation`` is true: with a retry it may
    run again.
    """

    def __init__(self, place: PlacesOrders, confirmation: Hook | None = None) -> None:
        self._place = place
        self._confirmation = confirmation
        self.at_most_once: bool = getattr(place, "at_most_once", False)
        self.settle_s: float = getattr(place, "settle_s", 0.0)
        self.timeout_s: float | None = getattr(place, "timeout_s", None)

    async def handle(self, payload: dict[str, Any], context: Context) -> Result:
        """As ``handle_step``."""
        return await self.handle_step(payload, 0, context)

    async def handle_step(self, data: dict[str, Any], step: int, context: Context) -> Result:
        """What the vendor's handler answers, with ``hooks_run``."""
        order, inner = _external(data, context)
        result = await self._place.handle(order, inner)
        return await self._confirmed(result, order, context) if isinstance(result, Completed) else result

    async def reconcile(self, payload: dict[str, Any], context: Context) -> Reconciled:
        """What the vendor's handler finds out about the order (R6); one that is there ends as ``handle_step`` does."""
        reconcile: Any = getattr(self._place, "reconcile", None)
        if reconcile is None:
            raise Unknown(
                "whether the order was placed is not known, and it cannot be looked for", code="order_unknown"
            )
        order, inner = _external(payload, context)
        found: Reconciled = await reconcile(order, inner)
        return await self._confirmed(found, order, context) if isinstance(found, Completed) else found

    async def _confirmed(self, placed: Completed, order: Mapping[str, Any], context: Context) -> Completed:
        hooks = await run_hook("send_confirmation", self._confirmation, order, context)
        return Completed({**placed.result, "hooks_run": hooks})


def _external(data: Mapping[str, Any], context: Context) -> tuple[dict[str, Any], Context]:
    """The order in the vendor's words, and a context that does not map these words a second time."""
    order = order_of(data)
    external = (data.get("previous_step_result") or {}).get("external_order")
    if not isinstance(external, dict):
        return order, context
    own = order.get("items")
    own = own if isinstance(own, list) and len(own) == len(external["items"]) else [{}] * len(external["items"])
    order["items"] = [
        {**before, "sku": item["external_sku"], "quantity": item["qty"], "specs": _specs(item)}
        for before, item in zip(own, external["items"], strict=True)
    ]
    names = {name for item in order["items"] for name in item["specs"]}
    maps = {
        "sku_map": {item["sku"]: item["sku"] for item in order["items"]},
        "specification_map": {name: name for name in names},
    }
    return order, replace(context, config={**context.config, **maps})


def _specs(item: Mapping[str, Any]) -> dict[str, Any]:
    return {each["attribute"]: each["value"] for each in item.get("specifications", ())}
