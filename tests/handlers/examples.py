"""Documents that several tests use."""

import json
from pathlib import Path
from typing import Any

SEED_TEXT = (Path(__file__).parent / "data" / "seed.json5").read_text()
"""The configuration of the product's own description, comments included."""


def small(**changes: Any) -> dict[str, Any]:
    """A valid configuration, with keys replaced."""
    document: dict[str, Any] = {
        "auth": {"url": "http://127.0.0.1:9", "secret": "s3cr3t-canary", "client_id": "acme"},
        "plugin__v": "2.0.0",
        "plugin_name": "drukwerkdeal.nl",
        "plugin_port": 5000,
        "plugin_routes": [{"route": "orders", "method": "POST"}, {"route": "webhook/order", "method": "POST"}],
        "plugin_route_prefix": "dwd",
        "webhook_settings": [
            {
                "models": ["App\\Models\\Tenants\\Order"],
                "events": ["created", "updated"],
                "webhook_endpoint": "webhook/order",
                "target_class": "OrderWebhookHandler",
            }
        ],
    }
    copied: dict[str, Any] = json.loads(json.dumps(document | changes))
    return copied
