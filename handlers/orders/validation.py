"""First step of an order's pipeline: is the order one that can be placed."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from handlers.contract import Context
from handlers.orders.order import Hook, order_of, run_hook
from handlers.results import Completed, Rejected, Result
from handlers.rules import EachItem, Number, Received, Required, Rule, checks_of, faults_of

ORDER_RULES: Final[tuple[Rule, ...]] = (
    Required("order_id", "Order ID is required"),
    EachItem(
        "items", (Required("sku"), Required("quantity"), Number("quantity", 1, whole=True)), "Invalid item format"
    ),
)


class OrderValidationHandler:
    """Checks the payload's order by ``rules``; what breaks one is rejected, as no retry mends it.

    ``inventory`` is run where ``processing_options.validate_inventory`` is true.
    """

    calls_upstream = False

    def __init__(self, rules: Sequence[Rule] = ORDER_RULES, inventory: Hook | None = None) -> None:
        self._rules = rules
        self._inventory = inventory

    async def handle(self, payload: dict[str, Any], context: Context) -> Result:
        """As ``handle_step``."""
        return await self.handle_step(payload, 0, context)

    async def handle_step(self, data: dict[str, Any], step: int, context: Context) -> Result:
        """``validation_status``, ``validated_at``, ``rules_checked``, ``hooks_run``; ``Rejected`` with every fault."""
        order = order_of(data)
        faults = faults_of(Received(order, context.tenant_id), self._rules)
        if faults:
            return Rejected("; ".join(faults), code="invalid_order")
        hooks = await run_hook("validate_inventory", self._inventory, order, context)
        return Completed(
            {
                "validation_status": "passed",
                "validated_at": datetime.now(UTC).isoformat(),
                "rules_checked": checks_of(self._rules),
                "hooks_run": hooks,
            }
        )
