"""Sends a print order to the upstream."""

from collections.abc import Mapping
from typing import Any

from handlers.contract import Context
from handlers.dwd.client import PrintdealClient
from handlers.dwd.mapping import REFERENCE_LIMIT, order_reference, upstream_address
from handlers.results import Completed, Rejected
from handlers.upstreams.mapping import full_reference, map_sku, specification_list
from handlers.upstreams.placement import (
    Item,
    OrderPlacement,
    address_of,
    items_of,
    order_id_of,
    order_of,
    why_not_placed,
)
from handlers.upstreams.search import not_before

__all__ = ["REFERENCE_LIMIT", "OrderWebhookHandler", "order_reference", "upstream_order"]


class Placement(OrderPlacement):
    """What orders and quotations have in common at this upstream."""

    settle_s = 600.0
    """The upstream takes up to ten minutes until an order shows in its list."""

    def reference_of(self, body: Mapping[str, Any]) -> str:
        """See ``OrderPlacement``."""
        return str(body["reference"])

    async def place(self, body: dict[str, Any], context: Context) -> dict[str, Any]:
        """See ``OrderPlacement``."""
        return _placed(await PrintdealClient(context.config, context.http).place_order(body), body)

    async def find(self, body: Mapping[str, Any], context: Context) -> dict[str, Any] | None:
        """See ``OrderPlacement``."""
        client = PrintdealClient(context.config, context.http)
        uuid = await client.find_uuid(self.reference_of(body), not_before(context.event_id))
        return None if uuid is None else _placed(uuid, body)


class OrderWebhookHandler(Placement):
    """Places the order of the payload; the result carries the ``uuid`` under which the upstream works on it.

    The payload is an order's attributes (``id`` or ``order_id``, ``items``, ``status``), or holds them under ``order``.
    """

    async def request_of(self, payload: Mapping[str, Any], context: Context) -> dict[str, Any] | Completed | Rejected:
        """See ``OrderPlacement``."""
        order = order_of(payload)
        return why_not_placed(order, context) or upstream_order(order, context.tenant_id, context.config)


def _placed(uuid: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The result of an order that the upstream took as ``uuid``."""
    return {
        "status": "placed",
        "uuid": uuid,
        "reference": body["reference"],
        "lines": len(body["orderLines"]),
        "test_order": body["testOrder"],
    }


def upstream_order(order: Mapping[str, Any], tenant_id: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The upstream's request for an order. Raises ``ValueError`` naming what the order lacks."""
    order_id = order_id_of(order)
    full = full_reference(tenant_id, order_id).replace("/", "_")
    body: dict[str, Any] = {
        "orderLines": [
            {**_line(item, config), "externalId": f"{full}-{number}"}
            for number, item in enumerate(items_of(order), start=1)
        ],
        **envelope(order, tenant_id, config),
    }
    return body


def envelope(order: Mapping[str, Any], tenant_id: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """What every request for an order carries beside its lines. Raises ``ValueError`` where the order has no id."""
    body: dict[str, Any] = {
        "deliveryMethod": 1,
        "reference": order_reference(tenant_id, order_id_of(order)),
        # Nothing is produced or billed unless the tenant's configuration says production.
        "testOrder": config.get("production") is not True,
    }
    if order.get("po_number"):
        body["poNumber"] = str(order["po_number"])[:REFERENCE_LIMIT]
    addresses = {
        "deliveryAddress": address_of(order, "delivery_address", "shipping_address"),
        "invoiceAddress": address_of(order, "invoice_address"),
    }
    return body | {name: upstream_address(address) for name, address in addresses.items() if address is not None}


def _line(item: Item, config: Mapping[str, Any]) -> dict[str, Any]:
    quantity = {"attribute": "quantity", "value": str(item.quantity)}
    line: dict[str, Any] = {
        "sku": map_sku(item.sku, config),
        "attributes": [*specification_list(item.given, config), quantity],
    }
    if item.given.get("file_url"):
        line["files"] = [{"url": str(item.given["file_url"])}]
    return line
