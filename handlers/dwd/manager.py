"""What the plugin does for a tenant outside webhooks."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from handlers.contract import HttpClient
from handlers.dwd import mapping
from handlers.dwd.client import PrintdealClient
from schemas.errors import Permanent, Retryable


class DwdPluginManager:
    """One tenant's view of the Printdeal API."""

    def __init__(self, tenant_id: str, config: Mapping[str, Any], http: HttpClient) -> None:
        self._config = config
        self._client = PrintdealClient(config, http)

    async def get_categories(self) -> list[dict[str, Any]]:
        """Every category as the upstream gives it: ``name``, ``sku``, ``combinationsModifiedAt``."""
        return await self._client.categories()

    async def get_price(self, quantity: int, product_data: Mapping[str, Any]) -> dict[str, Any]:
        """The price of ``quantity`` pieces of ``product_data`` (``sku``, ``specs``).

        Gives ``quantity``, ``price_cents`` (whole cents) and ``promised_arrival_date`` (ISO date or ``None``).
        Raises ``Permanent`` where the upstream does not know the product.
        """
        sku = self.map_sku(str(product_data.get("sku", "")))
        attributes = [*self.map_specifications(product_data), {"attribute": "quantity", "value": str(quantity)}]
        answer = await self._client.price(sku, attributes)
        price = answer.get("price")
        if isinstance(price, bool) or not isinstance(price, int | float):
            raise Retryable("the upstream's answer has no price", code="bad_answer")
        return {
            "quantity": quantity,
            # By way of its decimal text: 12.5 is 1250 cents, and 0.29 is not 28.
            "price_cents": int((Decimal(str(price)) * 100).to_integral_value()),
            "promised_arrival_date": answer.get("promisedArrivalDate"),
        }

    def get_sync_pipeline_config(self) -> list[dict[str, Any]]:
        """Categories, their attributes, their combinations: each step names the one it takes its input from."""
        steps = (("categories", None), ("attributes", "categories"), ("combinations", "categories"))
        return [
            {
                "id": name,
                "uses": "action",
                "events": [],
                "action": {"as": "RetrieveData", "path": "DWD", "model": f"dwd.{name}", "input": {"from": source}},
            }
            for name, source in steps
        ]

    async def check(self) -> str | None:
        """Ask for the categories: ``None`` when the credentials work, else what is wrong."""
        try:
            await self._client.categories()
        except (Permanent, Retryable) as error:
            return str(error)
        return None

    def map_sku(self, sku: str) -> str:
        """The upstream's product of one of the tenant's."""
        return mapping.map_sku(sku, self._config)

    def map_specifications(self, item: Mapping[str, Any]) -> list[dict[str, str]]:
        """The upstream's attributes of an item."""
        return mapping.map_specifications(item, self._config)
