"""The plugin's entry point."""

from functools import partial
from typing import Final

from handlers.contract import PluginManifest
from handlers.dwd.cancel import OrderCancelWebhookHandler
from handlers.dwd.catalogue import CatalogueWebhookHandler
from handlers.dwd.client import DEFAULT_URL, PrintdealClient
from handlers.dwd.confirm import OrderConfirmWebhookHandler
from handlers.dwd.manager import DwdPluginManager
from handlers.dwd.order import OrderWebhookHandler, order_reference
from handlers.dwd.quotation import QuotationWebhookHandler
from handlers.dwd.status import OrderStatusWebhookHandler
from handlers.orders.bulk import OrderBulkHandler
from handlers.orders.by_transport import OrderByTransport
from handlers.orders.export import OrderExportHandler
from handlers.orders.past_orders import PastOrders
from handlers.orders.special import SpecialOrderWebhookHandler
from handlers.orders.submit import OrderSubmitHandler
from handlers.orders.transform import OrderTransformHandler
from handlers.orders.validation import OrderValidationHandler

_placing: Final = OrderByTransport(OrderWebhookHandler())
_past: Final = PastOrders(
    PrintdealClient, order_reference, lambda client, listed: client.order(str(listed["id"])), "reference", "date"
)

PLUGIN: Final = PluginManifest(
    id="dwd",
    version="2.0.0",
    title="Drukwerkdeal.nl, on the Printdeal API",
    aliases=("drukwerkdeal.nl",),
    handlers={
        "OrderWebhookHandler": lambda: _placing,
        "OrderConfirmWebhookHandler": OrderConfirmWebhookHandler,
        "OrderCancelWebhookHandler": OrderCancelWebhookHandler,
        "OrderStatusWebhookHandler": OrderStatusWebhookHandler,
        "QuotationWebhookHandler": QuotationWebhookHandler,
        "CatalogueWebhookHandler": CatalogueWebhookHandler,
        "OrderValidationHandler": OrderValidationHandler,
        "OrderTransformHandler": partial(OrderTransformHandler, DwdPluginManager, order_reference),
        "OrderSubmitHandler": partial(OrderSubmitHandler, _placing),
        "OrderBulkHandler": partial(OrderBulkHandler, _placing, _past.placed),
        "OrderExportHandler": partial(OrderExportHandler, _past.export),
        "SpecialOrderWebhookHandler": partial(SpecialOrderWebhookHandler, DwdPluginManager),
    },
    supports=">=2,<3",
    upstream=lambda config: (config.get("auth") or {}).get("url") or DEFAULT_URL,
    routes=(
        ("categories", "GET"),
        ("orders", "POST"),
        ("webhook/order", "POST"),
        ("webhook/order/confirm", "POST"),
        ("webhook/order/cancel", "POST"),
        ("webhook/order/status", "POST"),
        ("webhook/quotation", "POST"),
        ("webhook/catalogue", "POST"),
    ),
    manager=DwdPluginManager,
    config_schema={
        "type": "object",
        "required": ["auth"],
        "properties": {
            "auth": {
                "type": "object",
                "required": ["client_id", "secret"],
                "properties": {
                    "url": {"type": "string", "description": "Address of the API."},
                    "webhook_url": {"type": "string", "description": "Address of the API for its webhooks."},
                    "client_id": {"type": "string", "description": "Sent as User-ID."},
                    "secret": {"type": "string", "secret": True, "description": "Sent as API-Secret."},
                },
            },
            "sku_map": {"type": "object", "description": "The tenant's product names and the upstream's."},
            "specification_map": {"type": "object", "description": "The tenant's property names and the upstream's."},
            "unmapped_sku": {"enum": ["pass", "reject"], "description": "What becomes of a product not in sku_map."},
            "status_map": {"type": "object", "description": "Our order statuses and the tenant's own."},
        },
    },
)
