"""Takes in what the upstream tells of an order."""

from collections.abc import Mapping
from typing import Any

from handlers.contract import Context
from handlers.printcom.callback import called_about
from handlers.printcom.mapping import STATUSES
from handlers.results import Completed, Rejected, Result
from handlers.upstreams.mapping import our_status


class OrderStatusWebhookHandler:
    """For ``ORDER_STATUS_CHANGED`` and ``SHIPMENT_CREATED``.

    The payload is the call-back's body, with the query of its address as ``query``: ``reference`` and ``token`` of the
    order, as ``callback_url`` gave them. The same call-back twice has the same result twice.
    """

    async def handle(self, payload: dict[str, Any], context: Context) -> Result:
        """The order's status in our words, or a shipment's tracking address."""
        query, told = payload.get("query"), payload.get("payload")
        reference = called_about(query if isinstance(query, Mapping) else payload, context.config, context.tenant_id)
        if reference is None:
            return Rejected(
                "the call-back's reference and token do not belong together: it is not the upstream's, or the "
                "tenant's credentials were changed since the order was placed",
                code="invalid_token",
            )
        if not isinstance(told, Mapping):
            return Rejected("the call-back has no payload", code="invalid_callback")
        event = payload.get("event_type")
        result: dict[str, Any] = {"reference": reference, "event": event}
        if event == "ORDER_STATUS_CHANGED":
            status = told.get("status")
            return Completed(
                {**result, "status": our_status(status, STATUSES, context.config), "upstream_status": status}
            )
        if event == "SHIPMENT_CREATED":
            url = str(told.get("tracking_code") or "")
            # It is shown as a link, so nothing but a web address passes.
            tracking_url = url if url.startswith(("https://", "http://")) else None
            status = our_status("SHIPPED", STATUSES, context.config)
            item = told.get("order_item_number")
            return Completed({**result, "status": status, "order_item_number": item, "tracking_url": tracking_url})
        return Completed({**result, "status": "ignored", "reason": "no event that this plugin follows"})
