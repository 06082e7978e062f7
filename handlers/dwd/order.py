"""Sends a print order to the upstream."""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from handlers.contract import Context
from handlers.dwd.client import PrintdealClient, UpstreamRefused
from handlers.dwd.mapping import map_sku, map_specifications
from handlers.results import Completed, Rejected, Result

REFERENCE_LIMIT: Final = 35
"""Longest order reference the upstream takes, in characters."""
_HASH_LENGTH: Final = 12
_NOT_PLACED: Final = ("_updated", "_deleted", "_restored")


class OrderWebhookHandler:
    """Places the order of the payload.

    The payload is an order's attributes (``id`` or ``order_id``, ``items``, ``status``), or holds them under
    ``order``. Only a new order is placed: a change of an order must not print it twice. The upstream works on an
    order after it has answered: the result carries its ``uuid``.
    """

    async def handle(self, payload: dict[str, Any], context: Context) -> Result:
        """Place the order unless there is nothing to place. The same idempotency key places it once."""
        if context.event_type.endswith(_NOT_PLACED):
            return Completed({"status": "not_placed", "reason": f"{context.event_type} places no order"})
        order = payload["order"] | payload if isinstance(payload.get("order"), dict) else payload
        if order.get("status") == "cancelled":
            return Completed({"status": "not_placed", "reason": "the order is cancelled"})
        try:
            body = upstream_order(order, context.tenant_id, context.config)
        except ValueError as error:
            return Rejected(str(error), code="invalid_order")
        client = PrintdealClient(context.config, context.http)
        try:
            uuid = await client.place_order(body)
        except UpstreamRefused as error:
            return Rejected(str(error), code=error.code)
        context.log.info("order %s placed as %s", body["reference"], uuid)
        return Completed(
            {
                "status": "placed",
                "uuid": uuid,
                "reference": body["reference"],
                "lines": len(body["orderLines"]),
                "test_order": body["testOrder"],
            }
        )


def order_reference(tenant_id: str, order_id: str) -> str:
    """The order's name at the upstream, ``REFERENCE_LIMIT`` characters at most: a longer one ends in its own hash."""
    reference = f"TENANT-{tenant_id}-{order_id}"
    if len(reference) <= REFERENCE_LIMIT:
        return reference
    digest = hashlib.sha256(reference.encode()).hexdigest()[:_HASH_LENGTH]
    return f"{reference[: REFERENCE_LIMIT - _HASH_LENGTH - 1]}-{digest}"


def upstream_order(order: Mapping[str, Any], tenant_id: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The upstream's request for an order. Raises ``ValueError`` naming what the order lacks."""
    order_id = order.get("order_id", order.get("id"))
    if not isinstance(order_id, str | int) or isinstance(order_id, bool) or not str(order_id).strip():
        raise ValueError("Order ID is required")
    items = order.get("items")
    if not isinstance(items, list) or not items:
        raise ValueError(f"order {order_id} has no items")
    full = f"TENANT-{tenant_id}-{order_id}".replace("/", "_")
    body: dict[str, Any] = {
        "orderLines": [
            {**_line(item, number, config), "externalId": f"{full}-{number}"}
            for number, item in enumerate(items, start=1)
        ],
        "deliveryMethod": 1,
        "reference": order_reference(tenant_id, str(order_id)),
        # Nothing is produced or billed unless the tenant's configuration says production.
        "testOrder": config.get("production") is not True,
    }
    for name, keys in (
        ("deliveryAddress", ("delivery_address", "shipping_address")),
        ("invoiceAddress", ("invoice_address",)),
    ):
        address = next((order[key] for key in keys if isinstance(order.get(key), dict)), None)
        if address is not None:
            body[name] = address
    return body


def _line(item: object, number: int, config: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(item, dict) or not item.get("sku"):
        raise ValueError(f"Invalid item format: item {number} has no sku")
    quantity = item.get("quantity")
    if isinstance(quantity, bool) or not isinstance(quantity, int) or quantity < 1:
        raise ValueError(f"Invalid item format: the quantity of item {number} must be a whole number, 1 or more")
    line: dict[str, Any] = {
        "sku": map_sku(str(item["sku"]), config),
        "attributes": [*map_specifications(item, config), {"attribute": "quantity", "value": str(quantity)}],
    }
    if item.get("file_url"):
        line["files"] = [{"url": str(item["file_url"])}]
    return line
