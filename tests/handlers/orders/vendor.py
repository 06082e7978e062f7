"""A vendor in memory, for the handlers that place orders through one."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from handlers.contract import Context, HttpClient
from handlers.outbound import GuardedClient
from handlers.results import Completed, NotFound, Reconciled, Rejected, Result
from schemas.errors import Retryable


class Vendor:
    """Places orders and keeps them by idempotency key. ``fail``: order ids that are not reached, so many times."""

    at_most_once = True
    settle_s = 30.0

    def __init__(self) -> None:
        self.orders: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.fail: dict[str, int] = {}
        self.configs: list[Mapping[str, Any]] = []

    async def handle(self, payload: dict[str, Any], context: Context) -> Result:
        order_id = str(payload["order_id"])
        await asyncio.sleep(0)
        for item in payload["items"]:
            if not isinstance(item.get("quantity"), int) or item["quantity"] < 1:
                return Rejected(f"Invalid item format: the quantity of {order_id}", code="invalid_order")
        if self.fail.get(order_id):
            self.fail[order_id] -= 1
            raise Retryable("the vendor answered 503", code="http_503")
        self.orders.append(payload)
        self.keys.append(context.idempotency_key)
        self.configs.append(context.config)
        return Completed({"uuid": f"u-{order_id}", "reference": f"T-{order_id}"})

    async def reconcile(self, payload: dict[str, Any], context: Context) -> Reconciled:
        order_id = payload["order_id"]
        if any(order["order_id"] == order_id for order in self.orders):
            return Completed({"uuid": f"u-{order_id}"})
        return NotFound()

    async def known(self, orders: Sequence[Mapping[str, Any]], context: Context) -> dict[str, Completed]:
        ids = {str(order["order_id"]) for order in self.orders}
        wanted = (str(order["order_id"]) for order in orders)
        return {order_id: Completed({"uuid": f"u-{order_id}"}) for order_id in wanted if order_id in ids}


class Shop:
    """A manager that needs no upstream."""

    def __init__(self, tenant_id: str, config: Mapping[str, Any], http: HttpClient) -> None:
        self._config = config

    async def get_categories(self) -> list[dict[str, Any]]:
        return [{"sku": "a"}, {"sku": "b"}]

    async def get_price(self, quantity: int, product_data: Mapping[str, Any]) -> dict[str, Any]:
        return {}

    def get_sync_pipeline_config(self) -> list[dict[str, Any]]:
        return [{"id": "categories"}]

    async def check(self) -> str | None:
        return None

    def map_sku(self, sku: str) -> str:
        return str(self._config["sku_map"][sku])

    def map_specifications(self, item: Mapping[str, Any]) -> list[dict[str, str]]:
        names = self._config["specification_map"]
        return [{"attribute": names[name], "value": value} for name, value in item.get("specs", {}).items()]


def context(files_dir: Path | None = None, **changes: Any) -> Context:
    known: dict[str, Any] = {
        "tenant_id": "1",
        "event_id": "0190b3a0-0000-7000-8000-000000000001",
        "event_type": "manual_trigger",
        "endpoint": "webhook/order/process",
        "run": 1,
        "step": 0,
        "attempt": 1,
        "idempotency_key": "key",
        "config": {"sku_map": {"ABC123": "flyers", "XYZ789": "posters"}, "specification_map": {"color": "kleur"}},
        "http": GuardedClient(()),
        "log": logging.LoggerAdapter(logging.getLogger("test"), {}),
        "files_dir": files_dir,
    }
    return Context(**{**known, **changes})


SEED_PAYLOAD: dict[str, Any] = {
    "order_id": 123,
    "items": [
        {"sku": "ABC123", "quantity": 2, "specs": {"color": "red"}},
        {"sku": "XYZ789", "quantity": 1, "file_url": "https://files.example/1.pdf"},
    ],
    "customer_id": 456,
    "processing_options": {"validate_inventory": True, "apply_discounts": True, "send_confirmation": True},
}
"""The payload of the product's own pipeline example."""
