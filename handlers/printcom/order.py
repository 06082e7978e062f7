"""Sends a print order to the upstream."""

from collections.abc import Mapping
from typing import Any

from handlers.contract import Context
from handlers.printcom.callback import callback_url
from handlers.printcom.client import ORDER_TIMEOUT_S, PrintcomClient
from handlers.printcom.mapping import upstream_address, upstream_options
from handlers.results import Completed, Rejected
from handlers.upstreams.mapping import full_reference, map_sku
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


class OrderWebhookHandler(OrderPlacement):
    """Places the order of the payload; the result carries its ``order_number``.

    The payload is an order's attributes (``id`` or ``order_id``, ``items``, ``status``), or holds them under ``order``.
    An item names a product by ``sku``, or a preset of the account by ``preset_id``.
    """

    timeout_s = ORDER_TIMEOUT_S + 10
    settle_s = 600.0
    """A call that is given up may go on at the upstream, and its order shows in the list only afterwards."""

    async def request_of(self, payload: Mapping[str, Any], context: Context) -> dict[str, Any] | Completed | Rejected:
        """See ``OrderPlacement``."""
        order = order_of(payload)
        return why_not_placed(order, context) or await self._request(order, context)

    async def _request(self, order: Mapping[str, Any], context: Context) -> dict[str, Any]:
        reference = full_reference(context.tenant_id, order_id_of(order))
        address = address_of(order, "delivery_address", "shipping_address")
        client = PrintcomClient(context.config, context.http)
        items = [
            await _item(item, f"{reference}-{number}", address, context.config, client)
            for number, item in enumerate(items_of(order), start=1)
        ]
        body: dict[str, Any] = {"customerReference": reference, "items": items}
        url = callback_url(context.config, context.tenant_id, reference)
        return {**body, "webhookUrl": url} if url else body

    def reference_of(self, body: Mapping[str, Any]) -> str:
        """See ``OrderPlacement``."""
        return str(body["customerReference"])

    async def place(self, body: dict[str, Any], context: Context) -> dict[str, Any]:
        """See ``OrderPlacement``."""
        return _placed(await PrintcomClient(context.config, context.http).place_order(body), body)

    async def find(self, body: Mapping[str, Any], context: Context) -> dict[str, Any] | None:
        """See ``OrderPlacement``."""
        client = PrintcomClient(context.config, context.http)
        order = await client.find_order(self.reference_of(body), not_before(context.event_id))
        return None if order is None else _placed(order, body)


def _placed(order: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "status": "placed",
        "order_number": str(order["orderNumber"]),
        "reference": body["customerReference"],
        "lines": len(body["items"]),
    }


async def _item(
    item: Item,
    reference: str,
    address: Mapping[str, Any] | None,
    config: Mapping[str, Any],
    client: PrintcomClient,
) -> dict[str, Any]:
    sku, options = map_sku(item.sku, config) if item.sku else "", upstream_options(item.given, item.quantity, config)
    if item.given.get("preset_id"):
        preset = await client.preset(str(item.given["preset_id"]))
        sku, options = str(preset["sku"]), {**preset["configuration"], **options}
    body: dict[str, Any] = {
        "sku": sku,
        "customerReference": reference,
        "approveDesign": True,
        "options": options,
    }
    if item.given.get("file_url"):
        body["fileUrl"] = str(item.given["file_url"])
    if address is not None:
        body["shipments"] = [{"copies": item.quantity, "address": upstream_address(address)}]
    return body
