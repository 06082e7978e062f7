"""The plugin's entry point."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from handlers.contract import PluginManifest
from handlers.orders.bulk import OrderBulkHandler
from handlers.orders.by_transport import OrderByTransport
from handlers.orders.export import OrderExportHandler
from handlers.orders.past_orders import PastOrders
from handlers.orders.special import SpecialOrderWebhookHandler
from handlers.orders.submit import OrderSubmitHandler
from handlers.orders.transform import OrderTransformHandler
from handlers.orders.validation import OrderValidationHandler
from handlers.printcom.client import PrintcomClient, address_of
from handlers.printcom.manager import PrintcomPluginManager
from handlers.printcom.order import OrderWebhookHandler
from handlers.printcom.status import OrderStatusWebhookHandler
from handlers.upstreams.mapping import full_reference


async def _whole(client: PrintcomClient, listed: Mapping[str, Any]) -> dict[str, Any] | None:
    return await client.order(str(listed["orderNumber"]))


_placing: Final = OrderByTransport(OrderWebhookHandler())
_past: Final = PastOrders(PrintcomClient, full_reference, _whole, "customerReference", "createdAt")

PLUGIN: Final = PluginManifest(
    id="printcom",
    version="2.0.0",
    title="Print.com",
    aliases=("print.com",),
    handlers={
        "OrderWebhookHandler": lambda: _placing,
        "OrderValidationHandler": OrderValidationHandler,
        "OrderTransformHandler": partial(OrderTransformHandler, PrintcomPluginManager, full_reference),
        "OrderSubmitHandler": partial(OrderSubmitHandler, _placing),
        "OrderBulkHandler": partial(OrderBulkHandler, _placing, _past.placed),
        "OrderExportHandler": partial(OrderExportHandler, _past.export),
        "SpecialOrderWebhookHandler": partial(SpecialOrderWebhookHandler, PrintcomPluginManager),
        "OrderStatusWebhookHandler": OrderStatusWebhookHandler,
    },
    routes=(
        ("categories", "GET"),
        ("orders", "POST"),
        ("webhook/order", "POST"),
        ("webhook/order/status", "POST"),
    ),
    supports=">=2,<3",
    upstream=address_of,
    manager=PrintcomPluginManager,
    config_schema={
        "type": "object",
        "required": ["auth"],
        "properties": {
            "auth": {
                "type": "object",
                "anyOf": [{"required": ["api_key"]}, {"required": ["username", "password"]}],
                "properties": {
                    "url": {"type": "string", "description": "Address of the API."},
                    "api_key": {"type": "string", "secret": True, "description": "Sent as PrintApiKey."},
                    "username": {"type": "string", "description": "For a login, where there is no key."},
                    "password": {"type": "string", "secret": True, "description": "For a login."},
                    "callback_secret": {
                        "type": "string",
                        "secret": True,
                        "description": "Makes the tokens of call-back addresses; by default the key or password does.",
                    },
                },
            },
            "callback_url": {
                "type": "string",
                "description": "Address at which this installation takes the tenant's call-backs in.",
            },
            "sku_map": {"type": "object", "description": "The tenant's product names and the upstream's."},
            "specification_map": {"type": "object", "description": "The tenant's property names and the upstream's."},
            "unmapped_sku": {"enum": ["pass", "reject"], "description": "What becomes of a product not in sku_map."},
            "status_map": {"type": "object", "description": "Our order statuses and the tenant's own."},
        },
    },
)
