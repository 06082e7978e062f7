"""A stand-in for the Printdeal API on loopback, for tests, the demonstration and plugin authors.

An order gets a uuid at once and is found under it only after a while, as the real one. Orders are kept in a journal
by ``Idempotency-Key``: the same key never makes a second order. Faults can be switched on while it runs.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field, fields
from types import TracebackType
from typing import Any, Final
from uuid import uuid4

import orjson
from aiohttp import web

_REFERENCE_LIMIT: Final = 35
_CATEGORIES: Final = [
    {"name": "Flyers", "sku": "7f0e64a2-flyers", "combinationsModifiedAt": "2026-01-05T08:00:00Z"},
    {"name": "Posters", "sku": "91b2d6c8-posters", "combinationsModifiedAt": "2026-01-05T08:00:00Z"},
]


@dataclass(slots=True)
class Behaviour:
    """How the fake answers; change it at any time, or ``PUT`` the fields to ``/_fake/behaviour``.

    ``delay_s``: wait before each answer. ``processed_after_s``: how long a new order is 404. ``fail_next``: so many
    calls are answered with ``fail_status`` (and ``Retry-After``, if set) before any effect. ``lose_next``: so many
    orders are placed and the connection then cut. ``secret``: credentials other than this are refused.
    """

    delay_s: float = 0.0
    processed_after_s: float = 0.0
    fail_next: int = 0
    fail_status: int = 503
    retry_after_s: int | None = None
    lose_next: int = 0
    secret: str | None = None


@dataclass(slots=True)
class PlacedOrder:
    """One order of the journal. ``calls`` counts how often it was asked for; ``placed_at`` is in monotonic seconds."""

    key: str
    uuid: str
    number: int
    order: dict[str, Any]
    placed_at: float
    calls: int = 1


@dataclass(slots=True)
class FakeUpstream:
    """The fake, an asynchronous context manager: inside it, ``url`` is what ``auth.url`` has to be.

    ``journal`` holds the placed orders by idempotency key.
    """

    host: str = "127.0.0.1"
    port: int = 0
    behaviour: Behaviour = field(default_factory=Behaviour)
    journal: dict[str, PlacedOrder] = field(default_factory=dict)
    _by_uuid: dict[str, PlacedOrder] = field(default_factory=dict)
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Address of the API."""
        return f"http://{self.host}:{self.port}/api"

    async def __aenter__(self) -> "FakeUpstream":
        self._runner = web.AppRunner(self.application(), access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.host, self.port).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def application(self) -> web.Application:
        """The fake as an aiohttp application."""
        app = web.Application(client_max_size=1024 * 1024, middlewares=[self._misbehave])
        app.add_routes(
            [
                web.get("/api/products/categories", self._list_categories),
                web.post("/api/products/{sku}", self._price),
                web.post("/api/orders", self._place),
                web.get("/api/orders", self._list_orders),
                web.get("/api/orders/{uuid}", self._show),
                web.get("/_fake/journal", self._show_journal),
                web.put("/_fake/behaviour", self._change),
            ]
        )
        return app

    @web.middleware
    async def _misbehave(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if request.path.startswith("/_fake/"):
            return await handler(request)
        behaviour = self.behaviour
        if behaviour.delay_s:
            await asyncio.sleep(behaviour.delay_s)
        if behaviour.fail_next > 0:
            behaviour.fail_next -= 1
            headers = {} if behaviour.retry_after_s is None else {"Retry-After": str(behaviour.retry_after_s)}
            return web.json_response({"message": "switched-on fault"}, status=behaviour.fail_status, headers=headers)
        known = request.headers.get("User-ID") and request.headers.get("API-Secret")
        if not known or (behaviour.secret is not None and request.headers["API-Secret"] != behaviour.secret):
            return web.json_response({"message": "Invalid credentials"}, status=401)
        return await handler(request)

    async def _list_categories(self, request: web.Request) -> web.Response:
        return web.json_response(_CATEGORIES)

    async def _price(self, request: web.Request) -> web.Response:
        body = await _json(request)
        attributes = {each.get("attribute"): each.get("value") for each in body.get("attributes", [])}
        quantity = str(attributes.get("quantity", ""))
        if not quantity.isdigit() or int(quantity) < 1:
            return web.json_response({"message": ["attribute quantity is required"]}, status=400)
        price = round(9.95 + int(quantity) * 0.045, 2)
        return web.json_response({"price": price, "deliveryDays": 0, "promisedArrivalDate": None})

    async def _place(self, request: web.Request) -> web.StreamResponse:
        order = await _json(request)
        fault = _fault(order)
        if fault:
            return web.json_response({"message": fault}, status=400)
        key = request.headers.get("Idempotency-Key") or f"none-{uuid4()}"
        placed = self.journal.get(key)
        if placed is None:
            placed = PlacedOrder(key, str(uuid4()), 600000 + len(self.journal), order, time.monotonic())
            self.journal[key] = self._by_uuid[placed.uuid] = placed
        else:
            placed.calls += 1
        if self.behaviour.lose_next > 0:
            self.behaviour.lose_next -= 1
            if request.transport is not None:
                request.transport.abort()
        return web.json_response({"uuid": placed.uuid}, status=201)

    async def _list_orders(self, request: web.Request) -> web.Response:
        orders = [_summary(placed) for placed in list(self.journal.values())[-50:] if self._processed(placed)]
        return web.json_response({"count": len(orders), "orders": orders})

    async def _show(self, request: web.Request) -> web.Response:
        placed = self._by_uuid.get(request.match_info["uuid"])
        if placed is None or not self._processed(placed):
            return web.json_response({"message": "Order not found"}, status=404)
        lines = [
            {"id": number, "status": "processing", "externalId": line.get("externalId"), "shipmentInfo": None}
            for number, line in enumerate(placed.order["orderLines"], start=1)
        ]
        return web.json_response({**_summary(placed), "reference": placed.order.get("reference"), "lines": lines})

    async def _show_journal(self, request: web.Request) -> web.Response:
        return web.json_response({"orders": [asdict(placed) for placed in self.journal.values()]})

    async def _change(self, request: web.Request) -> web.Response:
        known = {each.name for each in fields(Behaviour)}
        changes = await _json(request)
        if not changes.keys() <= known:
            return web.json_response({"message": f"known are {sorted(known)}"}, status=400)
        self.behaviour = Behaviour(**{**asdict(self.behaviour), **changes})
        return web.json_response(asdict(self.behaviour))

    def _processed(self, placed: PlacedOrder) -> bool:
        return time.monotonic() - placed.placed_at >= self.behaviour.processed_after_s


def run_fake(host: str = "127.0.0.1", port: int = 0) -> None:
    """Serve the fake until the process is interrupted."""
    web.run_app(FakeUpstream(host=host, port=port).application(), host=host, port=port)


async def _json(request: web.Request) -> dict[str, Any]:
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise web.HTTPBadRequest(text='{"message": "a JSON object is wanted"}', content_type="application/json")
    return body


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
    if len(str(order.get("reference", ""))) > _REFERENCE_LIMIT:
        return f"reference has more than {_REFERENCE_LIMIT} characters"
    if order.get("deliveryMethod") != 1:
        return "deliveryMethod must be 1"
    return None


def _summary(placed: PlacedOrder) -> dict[str, Any]:
    return {"id": placed.number, "number": str(placed.number), "status": "in-progress", "uuid": placed.uuid}
