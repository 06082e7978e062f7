"""A stand-in for the Printdeal API on loopback, for tests, the demonstration and plugin authors.

An order gets a uuid at once and is found under it, and in the list, only after a while, as at the real one.
"""

import asyncio
from typing import Any, Final
from uuid import uuid4

from aiohttp import web

from handlers.upstreams.fake import Behaviour, FakeApi, PlacedOrder, body_of

_REFERENCE_LIMIT: Final = 35
_COUNTRIES: Final = frozenset(["nl", "be", "de", "fr", "lu", "dk", "gb", "it", "at", "es", "fi", "se"])
_CATEGORIES: Final = [
    {"name": "Flyers", "sku": "7f0e64a2-flyers", "combinationsModifiedAt": "2026-01-05T08:00:00Z"},
    {"name": "Posters", "sku": "91b2d6c8-posters", "combinationsModifiedAt": "2026-01-05T08:00:00Z"},
]
_ATTRIBUTES: Final = {
    "format": ["A4", "A5", "A6"],
    "paper": ["135 g", "250 g"],
    "quantity": [{"minimum": 25, "maximum": 100_000, "increment": 25, "unitOfMeasure": "piece"}],
}
_COMBINATION: Final = (
    b'{"product":{"attributes":[{"attribute":"format","value":"A5"},{"attribute":"paper","value":"135 g"}],'
    b'"prices":[{"quantity":250,"price":21.2,"information":{"deliveryDays":4}},'
    b'{"quantity":500,"price":32.45,"information":{"deliveryDays":4}}]}}'
)
_AT_ONCE: Final = 500
_TOO_LATE: Final = frozenset({"in-production", "shipped", "completed"})


class FakeUpstream(FakeApi):
    """The fake. ``quotes`` holds its quotations by number, ``webhooks`` the registrations by uuid."""

    path = "/api"

    def __init__(self, host: str = "127.0.0.1", port: int = 0, behaviour: Behaviour | None = None) -> None:
        super().__init__(host, port, behaviour)
        self.quotes = {"Q-1001": _quote("Q-1001", expired=False), "Q-1002": _quote("Q-1002", expired=True)}
        self.webhooks: dict[str, dict[str, Any]] = {}

    def routes(self) -> list[web.RouteDef]:
        """See ``FakeApi``."""
        return [
            web.get("/api/products/categories", self._list_categories),
            web.get("/api/products/{sku}/attributes", self._attributes),
            web.get("/api/products/{sku}/combinations", self._combinations),
            web.post("/api/products/{sku}", self._price),
            web.post("/api/orders", self._place),
            web.get("/api/orders", self._list_orders),
            web.get("/api/orders/{order}", self._show),
            web.delete("/api/orders/{order}", self._cancel),
            web.post("/api/orderlines/{line}/files", self._add_file),
            web.get("/api/quote/{number}", self._quote),
            web.get("/webhooks", self._list_webhooks),
            web.post("/webhooks", self._register),
            web.delete("/webhooks/{uuid}", self._unregister),
        ]

    def refusal(self, request: web.Request) -> web.Response | None:
        """See ``FakeApi``."""
        secret = request.headers.get("API-Secret")
        if request.headers.get("User-ID") and secret and self.behaviour.secret in (None, secret):
            return None
        return _said("Invalid credentials", 401)

    def status_changed(self, placed: PlacedOrder) -> None:
        """See ``FakeApi``."""
        self._announce("orderline.status.updated", placed)

    def _announce(self, event: str, placed: PlacedOrder) -> None:
        """The real body is not documented: this one names what a receiver has to ask for."""
        body = {"event": event, "data": {"orderUuid": placed.uuid, "orderId": placed.number, "status": placed.status}}
        for each in self.webhooks.values():
            if each["status"] == "Active" and event in each["configuration"]["events"]:
                self.in_background(self.call_back(each["configuration"]["url"], body))

    async def _list_categories(self, request: web.Request) -> web.Response:
        return web.json_response(_CATEGORIES)

    async def _attributes(self, request: web.Request) -> web.Response:
        return web.json_response(_ATTRIBUTES)

    async def _combinations(self, request: web.Request) -> web.StreamResponse:
        """As many combinations as ``combinations_bytes`` holds, two at least, written piece by piece."""
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        many = max(2, self.behaviour.combinations_bytes // (len(_COMBINATION) + 1))
        await answer.write(b"[" + _COMBINATION)
        piece = (b"," + _COMBINATION) * _AT_ONCE
        for left in range(many - 1, 0, -_AT_ONCE):
            await answer.write(piece if left >= _AT_ONCE else (b"," + _COMBINATION) * left)
        await answer.write(b"]")
        return answer

    async def _price(self, request: web.Request) -> web.Response:
        body = await body_of(request)
        attributes = {each.get("attribute"): each.get("value") for each in body.get("attributes", [])}
        quantity = str(attributes.get("quantity", ""))
        if not quantity.isdigit() or int(quantity) < 1:
            return _said(["attribute quantity is required"], 400)
        price = round(9.95 + int(quantity) * 0.045, 2)
        return web.json_response({"price": price, "deliveryDays": 0, "promisedArrivalDate": None})

    async def _place(self, request: web.Request) -> web.Response:
        order = await body_of(request)
        fault = _quote_fault(order, self.quotes) if "quoteId" in order else _fault(order)
        if fault:
            return _said(fault, 400)
        placed = self.place(request, order, "in-progress")
        if placed.calls == 1:
            self.in_background(self._created(placed))
        return web.json_response({"uuid": placed.uuid}, status=201)

    async def _created(self, placed: PlacedOrder) -> None:
        await asyncio.sleep(self.behaviour.processed_after_s)
        self._announce("order.created", placed)

    async def _list_orders(self, request: web.Request) -> web.Response:
        try:
            limit, offset = (int(request.query.get(name, default)) for name, default in (("limit", 50), ("offset", 0)))
        except ValueError:
            return _said("limit and offset are whole numbers", 400)
        if not 1 <= limit <= 50 or offset < 0:
            return _said("limit is 1 to 50", 400)
        wanted = request.query.get("status")
        orders = [_summary(placed) for placed in self.shown() if wanted in (None, placed.status)]
        return web.json_response({"count": len(orders), "orders": orders[offset : offset + limit]})

    def _known(self, request: web.Request) -> PlacedOrder:
        name = request.match_info["order"]
        for placed in self.shown():
            if name in (placed.uuid, str(placed.number)):
                return placed
        raise web.HTTPNotFound(text='{"message": "Order not found"}', content_type="application/json")

    async def _show(self, request: web.Request) -> web.Response:
        placed = self._known(request)
        line_status = "processing" if placed.status == "in-progress" else placed.status
        shipped = [{"trackAndTraceUrl": f"https://track.example/{placed.number}"}] if line_status == "shipped" else None
        lines = [
            {"id": number, "status": line_status, "externalId": line.get("externalId"), "shipmentInfo": shipped}
            for number, line in enumerate(placed.order["orderLines"], start=1)
        ]
        return web.json_response({**_summary(placed), "reference": placed.order.get("reference"), "lines": lines})

    async def _cancel(self, request: web.Request) -> web.Response:
        placed = self._known(request)
        if not (await body_of(request)).get("reason"):
            return _said("reason is required", 400)
        if placed.status in _TOO_LATE:
            return _said("Cancel order failed", 500)
        placed.status = "cancelled"
        return web.json_response({"success": True})

    async def _add_file(self, request: web.Request) -> web.Response:
        files = (await body_of(request)).get("files")
        if not isinstance(files, list) or len(files) != 1:
            return _said("files takes one file", 400)
        return _said("File upload is scheduled", 200)

    async def _quote(self, request: web.Request) -> web.Response:
        number = request.match_info["number"]
        found = next((each for each in self.quotes.values() if number in (each["quoteNumber"], each["quoteId"])), None)
        return _said("Quote not found", 404) if found is None else web.json_response(found)

    async def _list_webhooks(self, request: web.Request) -> web.Response:
        return web.json_response(list(self.webhooks.values()))

    async def _register(self, request: web.Request) -> web.Response:
        body = await body_of(request)
        if not body.get("url") or not body.get("events"):
            return _said("url and events are required", 400)
        uuid = str(uuid4())
        made = {
            "uuid": uuid,
            "type": "webhook",
            "status": "Active",
            "description": body.get("description"),
            "configuration": {"url": body["url"], "events": body["events"]},
        }
        self.webhooks[uuid] = made
        return web.json_response(made, status=201)

    async def _unregister(self, request: web.Request) -> web.Response:
        known = self.webhooks.get(request.match_info["uuid"])
        if known is None:
            return _said("no such webhook", 404)
        known["status"] = "Inactive"
        return web.json_response(known)


def _said(message: object, status: int) -> web.Response:
    return web.json_response({"message": message}, status=status)


def _fault(order: dict[str, Any]) -> str | None:
    """What the documented API would refuse about an order."""
    lines = order.get("orderLines")
    if not isinstance(lines, list) or not lines:
        return "orderLines is required"
    for line in lines:
        if not isinstance(line, dict) or not line.get("sku") or not isinstance(line.get("attributes"), list):
            return "each order line needs sku and attributes"
        if len(line.get("files", ())) > 1:
            return "an order line takes one file"
        if "/" in str(line.get("externalId", "")):
            return "externalId must not contain /"
    if order.get("deliveryMethod") != 1:
        return "deliveryMethod must be 1"
    return _envelope_fault(order)


def _quote_fault(order: dict[str, Any], quotes: dict[str, dict[str, Any]]) -> str | None:
    quote = next((each for each in quotes.values() if each["quoteId"] == order["quoteId"]), None)
    if quote is None or quote["isExpired"]:
        return "the quote does not exist or is expired"
    known = {each["lineItemId"] for each in quote["quoteLineItems"]}
    lines = order.get("orderLines")
    if not isinstance(lines, list) or not lines or not {each.get("quoteLineItemId") for each in lines} <= known:
        return "orderLines must name line items of the quote"
    return _envelope_fault(order)


def _envelope_fault(order: dict[str, Any]) -> str | None:
    if len(str(order.get("reference", ""))) > _REFERENCE_LIMIT:
        return f"reference has more than {_REFERENCE_LIMIT} characters"
    address = order.get("deliveryAddress")
    if address is not None and address.get("country") not in _COUNTRIES:
        return "country must be one of " + ", ".join(sorted(_COUNTRIES))
    return None


def _quote(number: str, expired: bool) -> dict[str, Any]:
    line = {"lineItemId": f"{number}-1", "productName": "Flyers", "quantity": 500, "price": 32.45}
    return {
        "quoteId": f"7d1f0c52-{number}",
        "quoteNumber": number,
        "price": 32.45,
        "quoteExpiryDate": "2020-01-31" if expired else "2099-12-31",
        "quoteLineItems": [line],
        "quoteReference": "",
        "isExpired": expired,
    }


def _summary(placed: PlacedOrder) -> dict[str, Any]:
    number = placed.number
    return {"id": number, "number": str(number), "status": placed.status, "date": placed.date, "uuid": placed.uuid}
