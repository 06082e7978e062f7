"""Takes in what the upstream tells of an order."""

from collections.abc import Mapping
from typing import Any, Final

from handlers.contract import Context
from handlers.dwd.client import EVENTS, PrintdealClient
from handlers.dwd.mapping import summary_of
from handlers.results import Completed, Rejected, Result
from schemas.errors import Retryable

_NAMES: Final = ("orderUuid", "order_uuid", "uuid", "orderId", "order_id", "id")


class OrderStatusWebhookHandler:
    """For ``order.created``, ``order.failed`` and ``orderline.status.updated``.

    The call-back is unsigned and its body not documented, so it counts as a hint only: what it names is asked for.
    """

    async def handle(self, payload: dict[str, Any], context: Context) -> Result:
        """The order as the upstream shows it now; ``failed`` for an ``order.failed`` that it does not show."""
        event = next((payload[name] for name in ("event", "type") if payload.get(name)), "orderline.status.updated")
        if event not in EVENTS:
            return Completed({"status": "ignored", "event": str(event), "reason": "no event that this plugin follows"})
        data = next((payload[name] for name in ("data", "payload") if isinstance(payload.get(name), dict)), payload)
        name = _order_name(data)
        if name is None:
            return Rejected(
                f"the call-back names no order; it should carry one of {', '.join(_NAMES)}", code="invalid_callback"
            )
        order = await PrintdealClient(context.config, context.http).order(name)
        if order is not None:
            return Completed({**summary_of(order, context.config), "event": event})
        if event == "order.failed":
            return Completed({"status": "failed", "uuid": name, "event": event})
        raise Retryable(f"the upstream tells of order {name} and does not show it yet", code="still_processing")


def _order_name(data: Mapping[str, Any]) -> str | None:
    for name in _NAMES:
        value = data.get(name)
        if isinstance(value, str | int) and str(value).replace("-", "").isalnum():
            return str(value)
    return None
