"""The Print.com API, as far as the plugin uses it."""

import hashlib
import time
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final
from urllib.parse import quote

from handlers.contract import HttpClient, HttpResponse
from handlers.upstreams.answers import any_of, checked, list_of, object_of
from handlers.upstreams.search import find_order, patiently
from schemas.errors import Permanent, Retryable

PRODUCTION_URL: Final = "https://api.print.com"
STAGING_URL: Final = "https://api.stg.print.com"
ORDER_TIMEOUT_S: Final = 120.0
"""An order may take longer than a minute, and no answer in this time does not mean that it failed."""
_CREDENTIALS: Final = "auth.api_key, or auth.username and auth.password,"
_LOGIN_S: Final = 3_000.0
"""A login is used for so long; its true life is not documented, clients count on an hour."""
_MOST_LOGINS: Final = 1_000
_PAGE: Final = 100

_logins: dict[str, tuple[str, float]] = {}
"""Tokens of logins and when, in monotonic seconds, they are made anew; by a digest of whose they are."""


def address_of(config: Mapping[str, Any]) -> str:
    """Address of the API under a tenant's configuration."""
    default = PRODUCTION_URL if config.get("production") is True else STAGING_URL
    return str((config.get("auth") or {}).get("url") or default)


class PrintcomClient:
    """Calls the upstream with a tenant's ``auth.api_key``, or with a login by ``auth.username`` and ``auth.password``.

    Without ``production`` in the tenant's configuration it calls the staging host, unless ``auth.url`` says otherwise.
    Every call raises ``Retryable`` for passing faults, ``UpstreamRefused`` for 4xx answers, and ``Permanent`` for
    refused or missing credentials.
    """

    def __init__(self, config: Mapping[str, Any], http: HttpClient) -> None:
        self._auth: Mapping[str, Any] = config.get("auth") or {}
        self._base = address_of(config).rstrip("/")
        self._http = http

    async def products(self) -> list[dict[str, Any]]:
        """Every product: ``sku``, ``active``, ``titleSingle``, ``titlePlural``, ``createdAt``."""
        return list_of(any_of(await self._call("GET", "/products")))

    async def product(self, sku: str) -> dict[str, Any]:
        """A product with its ``properties`` (``slug``, ``options``) and what excludes what (``excludes``)."""
        return object_of(await self._call("GET", f"/products/{quote(sku, safe='')}"))

    async def presets(self) -> list[dict[str, Any]]:
        """The account's presets: ``id``, ``sku``, ``title``."""
        return list_of(any_of(await self._call("GET", "/customerpresets")), "items")

    async def preset(self, preset_id: str) -> dict[str, Any]:
        """A preset with its ``sku`` and ``configuration``."""
        return object_of(await self._call("GET", f"/customerpresets/{quote(preset_id, safe='')}"))

    async def price(self, sku: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """The price of a product with these options, ``copies`` among them: ``prices.normalPrice``."""
        return object_of(
            await self._call("POST", f"/products/{quote(sku, safe='')}/price", {"sku": sku, "options": dict(options)})
        )

    async def place_order(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Place an order and return it, with its ``orderNumber``."""
        placed = _order(object_of(await self._call("POST", "/orders", order, ORDER_TIMEOUT_S)))
        if not placed.get("orderNumber"):
            raise Retryable("the upstream took the order and gave no number for it", code="bad_answer")
        return placed

    async def order(self, number: str) -> dict[str, Any] | None:
        """An order by its number; ``None`` where there is none."""
        response = await self._send("GET", f"/orders/{quote(number, safe='')}")
        return None if response.status == 404 else _order(object_of(checked(response, _CREDENTIALS)))

    async def orders(self, page: int = 1) -> list[dict[str, Any]]:
        """A page of the account's orders."""
        return list_of(any_of(await self._call("GET", f"/orders?limit={_PAGE}&page={page}")), "orders", "items")

    async def find_order(self, reference: str, since: datetime | None = None) -> dict[str, Any] | None:
        """The order with our ``customerReference`` among those dated ``since``.

        Raises ``Unknown`` where there are too many to look at.
        """

        async def read(listed: Mapping[str, Any]) -> dict[str, Any] | None:
            order = dict(listed) if "customerReference" in listed else await self.order(str(listed["orderNumber"]))
            return order if order is not None and order.get("customerReference") == reference else None

        return await find_order(self.pages(), reference, since, read, "createdAt")

    async def pages(self) -> AsyncIterator[list[dict[str, Any]]]:
        """The account's orders, page by page, the newest first."""
        # How the list is paged is not documented: it ends where a page shows nothing new.
        seen: set[str] = set()
        page_number = 1
        while True:
            listed = await patiently(partial(self.orders, page_number))
            page = [each for each in listed if str(each.get("orderNumber")) not in seen]
            if not page:
                return
            yield page
            seen.update(str(each.get("orderNumber")) for each in page)
            page_number += 1

    async def _call(self, method: str, path: str, body: object = None, timeout_s: float | None = None) -> HttpResponse:
        return checked(await self._send(method, path, body, timeout_s), _CREDENTIALS)

    async def _send(self, method: str, path: str, body: object = None, timeout_s: float | None = None) -> HttpResponse:
        for fresh in (False, True):
            headers = {"Authorization": await self._authorization(fresh)}
            answer = await self._http.request(
                method, self._base + path, json=body, headers=headers, timeout_s=timeout_s
            )
            # A login that has ended is refused before any effect, so the call is made once more with a new one.
            if answer.status != 401 or self._auth.get("api_key"):
                break
        return answer

    async def _authorization(self, fresh: bool) -> str:
        key, name, password = (self._auth.get(each) for each in ("api_key", "username", "password"))
        if key:
            return f"PrintApiKey {key}"
        if not name or not password:
            raise Permanent(
                f"there are no credentials: set {_CREDENTIALS} in the tenant's configuration, then retry the event",
                code="credentials_missing",
            )
        whose = hashlib.sha256(f"{self._base}\0{name}\0{password}".encode()).hexdigest()
        token, until = _logins.get(whose, ("", 0.0))
        if fresh or time.monotonic() >= until:
            try:
                token = await self._login(str(name), str(password))
            except Retryable as error:
                # Whatever went wrong with the login, the call that needs it was not made.
                raise Retryable(str(error), code="not_sent", retry_after_s=error.retry_after_s) from error
            if len(_logins) >= _MOST_LOGINS:
                _logins.clear()
            _logins[whose] = token, time.monotonic() + _LOGIN_S
        return f"Bearer {token}"

    async def _login(self, name: str, password: str) -> str:
        body = {"credentials": {"username": name, "password": password}}
        token = any_of(checked(await self._http.request("POST", f"{self._base}/login", json=body), _CREDENTIALS))
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise Retryable("the upstream's answer to the login is no token; it is asked again", code="bad_answer")
        return token


def _order(answer: dict[str, Any]) -> dict[str, Any]:
    order = answer.get("order", answer)
    return order if isinstance(order, dict) else {}
