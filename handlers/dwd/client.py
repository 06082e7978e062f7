"""The Printdeal API, as far as the plugin uses it."""

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final
from urllib.parse import quote

from handlers.contract import HttpClient, HttpResponse
from handlers.dwd.combinations import objects_of
from handlers.upstreams.account_orders import Listing, Referenced, orders_of_account
from handlers.upstreams.answers import any_of, checked, list_of, object_of
from handlers.upstreams.search import patiently
from schemas.errors import Retryable

DEFAULT_URL: Final = "https://api.printdeal.com/api"
DEFAULT_WEBHOOK_URL: Final = "https://webhook.api.printdeal.com"
EVENTS: Final = ("order.created", "orderline.status.updated", "order.failed")
_ACCEPT: Final = "application/vnd.printdeal-api.v2+json"
_CREDENTIALS: Final = "auth.client_id and auth.secret"
_PAGE: Final = 50
_COMBINATIONS_S: Final = 1_800.0


class PrintdealClient:
    """Calls the upstream with a tenant's credentials: ``auth.client_id`` and ``auth.secret``.

    Every call raises ``Retryable`` for passing faults, ``UpstreamRefused`` for 4xx answers, and ``Permanent`` for
    refused credentials.
    """

    def __init__(self, config: Mapping[str, Any], http: HttpClient) -> None:
        auth = config.get("auth") or {}
        self._base = str(auth.get("url") or DEFAULT_URL).rstrip("/")
        self._webhooks = str(auth.get("webhook_url") or DEFAULT_WEBHOOK_URL).rstrip("/") + "/webhooks"
        self._headers = {
            "User-ID": str(auth.get("client_id") or ""),
            "API-Secret": str(auth.get("secret") or ""),
            "Accept": _ACCEPT,
        }
        self._http = http

    async def place_order(self, order: Mapping[str, Any]) -> str:
        """Hand in an order and return the ``uuid`` it gets. It is worked on afterwards; see ``order``."""
        uuid = object_of(await self._call("POST", "/orders", order)).get("uuid")
        if not isinstance(uuid, str) or not uuid:
            raise Retryable("the upstream took the order and gave no uuid for it", code="bad_answer")
        return uuid

    async def order(self, order_id: str) -> dict[str, Any] | None:
        """An order by ``uuid`` or ``id``; ``None`` while the upstream is at work on it, and when it failed."""
        response = await self._send("GET", f"{self._base}/orders/{quote(order_id, safe='')}")
        return None if response.status == 404 else object_of(checked(response, _CREDENTIALS))

    async def orders(self, offset: int = 0, status: str | None = None) -> tuple[int, list[dict[str, Any]]]:
        """How many orders there are, and a page of them: ``id``, ``number``, ``status``, ``date``, ``uuid``."""
        query = f"?limit={_PAGE}&offset={offset}" + (f"&status={status}" if status else "")
        answer = object_of(await self._call("GET", f"/orders{query}"))
        count = answer.get("count")
        return count if isinstance(count, int) else 0, list_of(answer, "orders")

    async def find_order(self, reference: str) -> dict[str, Any] | None:
        """The newest order with our reference, as it is now. Raises ``Unknown`` as ``find_uuid`` does."""
        uuid = await self._find(reference, None, newest=True)
        return None if uuid is None else await self.order(uuid)

    async def find_uuid(self, reference: str, since: datetime | None = None) -> str | None:
        """The ``uuid`` of an order with our reference among those dated ``since``: that it was placed.

        The list does not show references, so each order is read, once for all who look.
        Raises ``Unknown`` where there are too many to look at.
        """
        return await self._find(reference, since, newest=False)

    async def _find(self, reference: str, since: datetime | None, newest: bool) -> str | None:
        whose = "\0".join((self._base, self._headers["User-ID"], self._headers["API-Secret"]))
        account = hashlib.sha256(whose.encode()).hexdigest()
        listing = Listing(self.pages, self._referenced, "id", "date")
        return await orders_of_account(account).find(reference, since, listing, newest=newest)

    async def _referenced(self, listed: Mapping[str, Any]) -> Referenced | None:
        order = await self.order(str(listed["id"]))
        return None if order is None else Referenced(str(order.get("reference")), str(order["uuid"]))

    async def pages(self) -> AsyncIterator[list[dict[str, Any]]]:
        """The account's orders, page by page, the newest first."""
        offset, count = 0, 1
        while offset < count:
            count, page = await patiently(partial(self.orders, offset))
            yield page
            offset += len(page) or count

    async def cancel(self, order_id: str, reason: str) -> None:
        """Cancel an order by its ``id``. The upstream answers 500 where it is too late for that."""
        await self._call("DELETE", f"/orders/{quote(order_id, safe='')}", {"reason": reason})

    async def quote(self, number: str) -> dict[str, Any] | None:
        """A quotation by number or uuid; ``None`` where there is none."""
        response = await self._send("GET", f"{self._base}/quote/{quote(number, safe='')}")
        return None if response.status == 404 else object_of(checked(response, _CREDENTIALS))

    async def categories(self) -> list[dict[str, Any]]:
        """Every product category: ``name``, ``sku``, ``combinationsModifiedAt``."""
        return list_of(any_of(await self._call("GET", "/products/categories")))

    async def attributes(self, sku: str) -> dict[str, Any]:
        """What can be chosen of a product: a list of values for each attribute, or of ranges; and ``externals``."""
        return object_of(await self._call("GET", f"/products/{quote(sku, safe='')}/attributes"))

    async def combinations(self, sku: str) -> AsyncIterator[dict[str, Any]]:
        """Every combination of a product with its prices, one after another: the whole may exceed 100 MB.

        None at all means that the product's attributes are free to choose.
        """
        url = f"{self._base}/products/{quote(sku, safe='')}/combinations"
        async with self._http.stream("GET", url, headers=self._headers, timeout_s=_COMBINATIONS_S) as answer:
            if not 200 <= answer.status < 300:
                checked(HttpResponse(answer.status, answer.headers, await anext(answer.chunks, b"")), _CREDENTIALS)
            async for combination in objects_of(answer.chunks):
                yield combination

    async def price(self, sku: str, attributes: Sequence[Mapping[str, str]]) -> dict[str, Any]:
        """The price of a product with these attributes, the quantity among them."""
        return object_of(await self._call("POST", f"/products/{quote(sku, safe='')}", {"attributes": list(attributes)}))

    async def ensure_webhook(self, url: str) -> str:
        """Have the upstream call ``url`` on what becomes of orders, once; returns the registration's uuid."""
        known = list_of(any_of(checked(await self._send("GET", self._webhooks), _CREDENTIALS)), "webhooks")
        for each in known:
            if each.get("status") == "Active" and (each.get("configuration") or {}).get("url") == url:
                return str(each.get("uuid"))
        body = {"description": "webhook-streams", "url": url, "events": list(EVENTS)}
        made = object_of(checked(await self._send("POST", self._webhooks, body), _CREDENTIALS))
        return str(made.get("uuid"))

    async def _call(self, method: str, path: str, body: object = None) -> HttpResponse:
        return checked(await self._send(method, self._base + path, body), _CREDENTIALS)

    async def _send(self, method: str, url: str, body: object = None) -> HttpResponse:
        return await self._http.request(method, url, json=body, headers=self._headers)
