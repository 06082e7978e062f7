"""A stand-in for the Print.com API on loopback, for tests, the demonstration and plugin authors.

An order has its number at once; its call-backs go to the ``webhookUrl`` it came with, as at the real one.
"""

import asyncio
import secrets
from typing import Any, Final

from aiohttp import web

from handlers.upstreams.fake import Behaviour, FakeApi, PlacedOrder, body_of

_PRODUCTS: Final = [
    {
        "active": True,
        "sku": "flyers",
        "createdAt": "2024-01-05T08:00:00Z",
        "titlePlural": "Flyers",
        "titleSingle": "Flyer",
    },
    {
        "active": True,
        "sku": "posters",
        "createdAt": "2024-01-05T08:00:00Z",
        "titlePlural": "Posters",
        "titleSingle": "Poster",
    },
]
_PROPERTIES: Final = [
    {
        "slug": "size",
        "title": "Size",
        "locked": False,
        "options": [
            {"slug": "a5", "name": "A5", "nullable": False, "width": 148, "height": 210},
            {"slug": "a6", "name": "A6", "nullable": False, "width": 105, "height": 148},
        ],
    }
]
_PRESETS: Final = {
    "flyers_a5": {"id": "flyers_a5", "sku": "flyers", "configuration": {"size": "a5", "copies": 250, "variants": []}},
}


class FakePrintcom(FakeApi):
    """The fake. ``tokens`` are those of its logins; take one out, and it has ended."""

    first_number = 60001234

    def __init__(self, host: str = "127.0.0.1", port: int = 0, behaviour: Behaviour | None = None) -> None:
        super().__init__(host, port, behaviour)
        self.tokens: set[str] = set()

    def routes(self) -> list[web.RouteDef]:
        """See ``FakeApi``."""
        return [
            web.post("/login", self._login),
            web.get("/products", self._products),
            web.get("/products/{sku}", self._product),
            web.post("/products/{sku}/price", self._price),
            web.get("/customerpresets", self._presets),
            web.get("/customerpresets/{preset}", self._preset),
            web.post("/orders", self._place),
            web.get("/orders", self._list_orders),
            web.get("/orders/{number}", self._show),
        ]

    def refusal(self, request: web.Request) -> web.Response | None:
        """See ``FakeApi``."""
        scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
        by_key = scheme == "PrintApiKey" and credentials and self.behaviour.secret in (None, credentials)
        by_login = scheme == "Bearer" and credentials in self.tokens
        if request.path == "/login" or by_key or by_login:
            return None
        return _said("Unauthorized", 401)

    def status_changed(self, placed: PlacedOrder) -> None:
        """See ``FakeApi``."""
        events: list[tuple[str, dict[str, Any]]] = [("ORDER_STATUS_CHANGED", {"status": placed.status})]
        if placed.status.upper() == "SHIPPED":
            url = f"https://track.example/{placed.number}"
            events += [
                ("SHIPMENT_CREATED", {"order_item_number": item["orderItemNumber"], "tracking_code": url})
                for item in _shown(placed)["items"]
            ]
        for event, payload in events if placed.order.get("webhookUrl") else ():
            self.in_background(self.call_back(placed.order["webhookUrl"], {"event_type": event, "payload": payload}))

    async def _login(self, request: web.Request) -> web.Response:
        credentials = (await body_of(request)).get("credentials") or {}
        password = credentials.get("password")
        if not credentials.get("username") or not password or self.behaviour.secret not in (None, password):
            return _said("Unauthorized", 401)
        token = secrets.token_urlsafe(24)
        self.tokens.add(token)
        return web.json_response(token)

    async def _products(self, request: web.Request) -> web.Response:
        return web.json_response(_PRODUCTS)

    async def _product(self, request: web.Request) -> web.Response:
        known = next((each for each in _PRODUCTS if each["sku"] == request.match_info["sku"]), None)
        if known is None:
            return _said("Product not found", 404)
        return web.json_response({**known, "properties": _PROPERTIES, "excludes": []})

    async def _price(self, request: web.Request) -> web.Response:
        options = (await body_of(request)).get("options") or {}
        copies = options.get("copies")
        if isinstance(copies, bool) or not isinstance(copies, int) or copies < 1:
            return _said("options.copies must be 1 or more", 400)
        return web.json_response({"prices": {"normalPrice": round(7.5 + copies * 0.05, 2)}})

    async def _presets(self, request: web.Request) -> web.Response:
        items = [{"id": each["id"], "sku": each["sku"], "title": {"en": "Flyers A5"}} for each in _PRESETS.values()]
        return web.json_response({"items": items})

    async def _preset(self, request: web.Request) -> web.Response:
        known = _PRESETS.get(request.match_info["preset"])
        return _said("[404] Preset not found.", 404) if known is None else web.json_response(known)

    async def _place(self, request: web.Request) -> web.Response:
        order = await body_of(request)
        fault = _fault(order)
        if fault:
            return _said(fault, 400)
        placed = self.place(request, order, "ORDERRECEIVED")
        if placed.calls == 1:
            self.in_background(self._accept(placed))
        return web.json_response({"order": _shown(placed)}, status=201)

    async def _accept(self, placed: PlacedOrder) -> None:
        await asyncio.sleep(self.behaviour.processed_after_s)
        placed.status = "ACCEPTEDBYSUPPLIER"
        self.status_changed(placed)

    async def _list_orders(self, request: web.Request) -> web.Response:
        try:
            limit, page = (int(request.query.get(name, default)) for name, default in (("limit", 100), ("page", 1)))
        except ValueError:
            return _said("limit and page are whole numbers", 400)
        shown = [_shown(placed) for placed in self.shown()]
        return web.json_response({"orders": shown[(page - 1) * limit : page * limit]})

    async def _show(self, request: web.Request) -> web.Response:
        for placed in self.shown():
            if str(placed.number) == request.match_info["number"]:
                return web.json_response({"order": _shown(placed)})
        return _said("Order not found", 404)


def _said(message: str, status: int) -> web.Response:
    return web.json_response({"errorMessage": message}, status=status)


def _fault(order: dict[str, Any]) -> str | None:
    items = order.get("items")
    if not isinstance(items, list) or not items:
        return "items is required"
    for item in items:
        copies = (item.get("options") or {}).get("copies")
        if not item.get("sku"):
            return "each item needs a sku"
        if isinstance(copies, bool) or not isinstance(copies, int) or copies < 1:
            return "each item needs options.copies, 1 or more"
        if sum(each.get("copies", 0) for each in item.get("shipments", ())) not in (0, copies):
            return "the shipments of an item must add up to its copies"
    return None


def _shown(placed: PlacedOrder) -> dict[str, Any]:
    items = [
        {
            "orderItemNumber": f"{placed.number}-{number}",
            "status": placed.status,
            "customerReference": item.get("customerReference"),
            "options": item["options"],
        }
        for number, item in enumerate(placed.order["items"], start=1)
    ]
    return {
        "orderNumber": str(placed.number),
        "customerReference": placed.order.get("customerReference"),
        "createdAt": placed.date,
        "status": placed.status,
        "items": items,
    }
