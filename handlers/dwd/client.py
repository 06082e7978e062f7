"""The Printdeal API, as far as the plugin uses it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from handlers.contract import HttpClient, HttpResponse
from schemas.errors import Permanent, Retryable

DEFAULT_URL: Final = "https://api.printdeal.com/api"
_ACCEPT: Final = "application/vnd.printdeal-api.v2+json"


class UpstreamRefused(Permanent):
    """The upstream refused the request itself: sending it again changes nothing."""

    code = "upstream_refused"


class PrintdealClient:
    """Calls the upstream with a tenant's credentials: ``auth.client_id`` and ``auth.secret``.

    Every call raises ``Retryable`` for passing faults, ``UpstreamRefused`` for 4xx answers, and ``Permanent`` for
    refused credentials.
    """

    def __init__(self, config: Mapping[str, Any], http: HttpClient) -> None:
        auth = config.get("auth") or {}
        self._base = str(auth.get("url") or DEFAULT_URL).rstrip("/")
        self._headers = {
            "User-ID": str(auth.get("client_id") or ""),
            "API-Secret": str(auth.get("secret") or ""),
            "Accept": _ACCEPT,
        }
        self._http = http

    async def place_order(self, order: Mapping[str, Any]) -> str:
        """Hand in an order and return the ``uuid`` it gets. It is worked on afterwards; see ``order``."""
        answer = _object(await self._call("POST", "/orders", order))
        uuid = answer.get("uuid")
        if not isinstance(uuid, str) or not uuid:
            raise Retryable("the upstream took the order and gave no uuid for it", code="bad_answer")
        return uuid

    async def order(self, uuid: str) -> dict[str, Any] | None:
        """An order by its ``uuid``; ``None`` while the upstream is at work on it, and when it failed."""
        response = await self._send("GET", f"/orders/{uuid}")
        return None if response.status == 404 else _object(_checked(response))

    async def categories(self) -> list[dict[str, Any]]:
        """Every product category: ``name``, ``sku``, ``combinationsModifiedAt``."""
        found = _json(await self._call("GET", "/products/categories"))
        if not isinstance(found, list):
            raise Retryable("the upstream's categories are no list", code="bad_answer")
        return found

    async def price(self, sku: str, attributes: Sequence[Mapping[str, str]]) -> dict[str, Any]:
        """The price of a product with these attributes, the quantity among them."""
        return _object(await self._call("POST", f"/products/{sku}", {"attributes": list(attributes)}))

    async def _call(self, method: str, path: str, body: object = None) -> HttpResponse:
        return _checked(await self._send(method, path, body))

    async def _send(self, method: str, path: str, body: object = None) -> HttpResponse:
        return await self._http.request(method, self._base + path, json=body, headers=self._headers)


def _checked(response: HttpResponse) -> HttpResponse:
    if response.status in (401, 403):
        raise Permanent(
            f"the upstream refused the credentials ({response.status}); check auth.client_id and auth.secret",
            code="credentials_refused",
        )
    if not 200 <= response.status < 300:
        raise UpstreamRefused(f"the upstream answered {response.status}: {_message(response)}")
    return response


def _message(response: HttpResponse) -> str:
    """What the upstream says, shortened: its errors come as text, list or object."""
    try:
        said = orjson.loads(response.body)
    except orjson.JSONDecodeError:
        return response.body[:200].decode(errors="replace") or "no explanation"
    if isinstance(said, dict):
        said = said.get("message") or said.get("error") or said
    return str(said)[:500]


def _json(response: HttpResponse) -> Any:
    try:
        return orjson.loads(response.body)
    except orjson.JSONDecodeError as error:
        raise Retryable(f"the upstream's answer is no JSON: {error}", code="bad_answer") from None


def _object(response: HttpResponse) -> dict[str, Any]:
    answer = _json(response)
    if not isinstance(answer, dict):
        raise Retryable("the upstream's answer is no JSON object", code="bad_answer")
    return answer
