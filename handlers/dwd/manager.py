"""What the plugin does for a tenant outside webhooks."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from handlers.contract import HttpClient
from handlers.dwd.client import PrintdealClient
from handlers.dwd.mapping import ORDER_STATUSES
from handlers.upstreams import mapping
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
        return {
            "quantity": quantity,
            "price_cents": mapping.cents(answer.get("price")),
            "promised_arrival_date": answer.get("promisedArrivalDate"),
        }

    async def get_attributes(self, sku: str) -> dict[str, Any]:
        """What can be chosen of one of the tenant's products, as the upstream gives it."""
        return await self._client.attributes(self.map_sku(sku))

    def get_combinations(self, sku: str) -> AsyncIterator[dict[str, Any]]:
        """Every combination of one of the tenant's products with its prices, read as it comes: it may be 100 MB."""
        return self._client.combinations(self.map_sku(sku))

    async def get_orders(self, status: str | None = None) -> list[dict[str, Any]]:
        """The latest orders, 50 at most, with ``status`` in our words; only those of one status where it is given."""
        wanted: Sequence[str | None] = (
            [None] if status is None else mapping.upstream_statuses(status, ORDER_STATUSES, self._config)
        )
        pages = [(await self._client.orders(status=each))[1] for each in wanted]
        return [
            {**order, "status": mapping.our_status(order.get("status"), ORDER_STATUSES, self._config)}
            for page in pages
            for order in page
        ]

    async def ensure_webhook(self, url: str) -> str:
        """Have the upstream call ``url`` on what becomes of orders; the registration's uuid. Asking again adds none."""
        return await self._client.ensure_webhook(url)

    def get_sync_pipeline_config(self) -> list[dict[str, Any]]:
        """Categories, their attributes, their combinations: each step names the one it takes its input from."""
        sources = {"categories": None, "attributes": "categories", "combinations": "categories"}
        return mapping.sync_steps("DWD", sources)

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
        return mapping.specification_list(item, self._config)
