"""Cancels an order at the upstream."""

from typing import Any, Final

from handlers.contract import Context
from handlers.dwd.client import PrintdealClient
from handlers.dwd.lookup import order_at_upstream
from handlers.dwd.mapping import summary_of
from handlers.results import Completed, Rejected, Result
from schemas.errors import Retryable

_TOO_LATE: Final = frozenset({"in_production", "shipped", "completed"})


class OrderCancelWebhookHandler:
    """Cancels the order of the payload, named by the upstream's ``uuid`` or by our own ``order_id``.

    It looks before it acts, so a repeated call finds the order cancelled and leaves it so.
    """

    async def handle(self, payload: dict[str, Any], context: Context) -> Result:
        """The cancelled order; ``Rejected`` where there is none or it is too late."""
        client = PrintdealClient(context.config, context.http)
        try:
            order = await order_at_upstream(payload, context, client)
        except ValueError as error:
            return Rejected(str(error), code="invalid_order")
        if order is None:
            return Rejected(
                "the upstream has no such order; within ten minutes of placing it, wait and retry the event",
                code="no_such_order",
            )
        if order.get("status") == "cancelled":
            return Completed(summary_of(order, context.config))
        reason = str(payload.get("reason") or "cancelled by the customer")
        try:
            await client.cancel(str(order["id"]), reason)
        except Retryable as error:
            # A refusal comes as 500, as any fault does: what the order has come to tells them apart.
            now = summary_of(await client.order(str(order["id"])) or order, {})
            states = {now["status"], *(line["status"] for line in now["lines"])}
            if error.code == "http_500" and states & _TOO_LATE:
                return Rejected(
                    f"order {now['number']} is {' and '.join(sorted(states & _TOO_LATE))} at the upstream: too late to "
                    "cancel; ask its support",
                    code="too_late",
                )
            raise
        return Completed(summary_of(await client.order(str(order["id"])) or order, context.config))
