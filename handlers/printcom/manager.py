"""What the plugin does for a tenant outside webhooks."""

from collections.abc import Mapping
from typing import Any

from handlers.contract import HttpClient
from handlers.printcom.callback import called_about
from handlers.printcom.client import PrintcomClient
from handlers.printcom.mapping import STATUSES, upstream_options
from handlers.upstreams import mapping
from schemas.errors import Permanent, Retryable


class PrintcomPluginManager:
    """One tenant's view of the Print.com API."""

    def __init__(self, tenant_id: str, config: Mapping[str, Any], http: HttpClient) -> None:
        self._tenant_id = tenant_id
        self._config = config
        self._client = PrintcomClient(config, http)

    async def get_categories(self) -> list[dict[str, Any]]:
        """Every product as the upstream gives it, which has no categories: ``sku``, ``titleSingle``, ``active``."""
        return await self._client.products()

    async def get_product(self, sku: str) -> dict[str, Any]:
        """What can be chosen of one of the tenant's products: ``properties`` and ``excludes``."""
        return await self._client.product(self.map_sku(sku))

    async def get_presets(self) -> list[dict[str, Any]]:
        """The account's presets: ``id``, ``sku``, ``title``; an order's item names one by ``preset_id``."""
        return await self._client.presets()

    async def get_price(self, quantity: int, product_data: Mapping[str, Any]) -> dict[str, Any]:
        """The price of ``quantity`` pieces of ``product_data`` (``sku``, ``specs``).

        Gives ``quantity``, ``price_cents`` (whole cents) and ``promised_arrival_date``, which this upstream has not.
        Raises ``Permanent`` where the upstream does not know the product.
        """
        sku = self.map_sku(str(product_data.get("sku", "")))
        answer = await self._client.price(sku, upstream_options(product_data, quantity, self._config))
        prices = answer.get("prices")
        price = prices.get("normalPrice") if isinstance(prices, dict) else None
        return {"quantity": quantity, "price_cents": mapping.cents(price), "promised_arrival_date": None}

    async def get_orders(self, status: str | None = None) -> list[dict[str, Any]]:
        """The latest orders, a page at most, with ``status`` in our words; only those of one where it is given."""
        named = [
            {**order, "status": mapping.our_status(order.get("status"), STATUSES, self._config)}
            for order in await self._client.orders()
        ]
        return [order for order in named if status in (None, order["status"])]

    def get_sync_pipeline_config(self) -> list[dict[str, Any]]:
        """Products, their properties, and the presets: each step names the one it takes its input from."""
        return mapping.sync_steps("PRINTCOM", {"products": None, "properties": "products", "presets": None})

    async def check(self) -> str | None:
        """Ask for the products: ``None`` when the credentials work, else what is wrong."""
        try:
            await self._client.products()
        except (Permanent, Retryable) as error:
            return str(error)
        return None

    def verify_callback(self, query: Mapping[str, str]) -> bool:
        """Whether the query of a call-back's address is one that an order of this tenant was given."""
        return called_about(query, self._config, self._tenant_id) is not None

    def map_sku(self, sku: str) -> str:
        """The upstream's product of one of the tenant's."""
        return mapping.map_sku(sku, self._config)

    def map_specifications(self, item: Mapping[str, Any]) -> list[dict[str, str]]:
        """The upstream's options of an item, as names and values."""
        return mapping.specification_list(item, self._config)
