"""The plugin's entry point."""

from typing import Final

from handlers.contract import PluginManifest
from handlers.dwd.manager import DwdPluginManager
from handlers.dwd.order import OrderWebhookHandler

PLUGIN: Final = PluginManifest(
    id="dwd",
    version="2.0.0",
    title="Drukwerkdeal.nl, on the Printdeal API",
    aliases=("drukwerkdeal.nl",),
    handlers={"OrderWebhookHandler": OrderWebhookHandler},
    routes=(("categories", "GET"), ("orders", "POST"), ("webhook/order", "POST"), ("webhook/quotation", "POST")),
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
                    "client_id": {"type": "string", "description": "Sent as User-ID."},
                    "secret": {"type": "string", "secret": True, "description": "Sent as API-Secret."},
                },
            },
            "sku_map": {"type": "object", "description": "The tenant's product names and the upstream's."},
            "specification_map": {"type": "object", "description": "The tenant's property names and the upstream's."},
        },
    },
)
