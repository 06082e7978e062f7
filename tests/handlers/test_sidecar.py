"""The sidecar on loopback, through the guarded client."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from handlers.contract import Context
from handlers.dwd.manager import DwdPluginManager
from handlers.dwd.manifest import PLUGIN
from handlers.dwd.order import OrderWebhookHandler
from handlers.orders.by_transport import OrderByTransport
from handlers.outbound import GuardedClient
from handlers.registry import PluginRegistry
from handlers.resolution import resolve
from handlers.results import Completed, Rejected
from handlers.service import Accepted, PluginService
from handlers.sidecar import RouteNotListed, Sidecar, SidecarForwardHandler, SidecarManager
from handlers.tenants.configuration import parse_configuration
from handlers.tenants.repository import MemoryTenantRepository
from handlers.upstreams.answers import UpstreamRefused
from schemas.errors import Permanent, Retryable, Unknown
from schemas.events import WebhookRequested
from tests.handlers.examples import small
from tests.handlers.orders.vendor import context as vendor_context

ROUTES = [
    {"route": "categories", "method": "GET"},
    {"route": "get-price", "method": "POST"},
    {"route": "orders", "method": "POST"},
    {"route": "webhook/customer", "method": "POST"},
]
ORDER = {"order_id": 7, "items": [{"sku": "A", "quantity": 1}]}


class Service:
    """A sidecar: keeps what it was sent and answers with ``envelope``."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, Any]] = []
        self.envelope: dict[str, Any] = {"data": [{"sku": "a"}], "message": "", "status": 200, "errors": []}
        self.status = 200

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else dict(request.query)
        self.calls.append((request.method, request.path, body))
        return web.json_response(self.envelope, status=self.status)


@pytest.fixture
async def service() -> AsyncIterator[tuple[Service, int]]:
    served = Service()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", served.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield served, runner.addresses[0][1]
    await runner.cleanup()


@pytest.fixture
async def http() -> AsyncIterator[GuardedClient]:
    async with GuardedClient(["localhost", "127.0.0.1"], timeout_s=5) as client:
        yield client


def document(port: int, **changes: Any) -> dict[str, Any]:
    known = {"transport": "sidecar", "plugin_port": port, "plugin_route_prefix": "localhost", "plugin_routes": ROUTES}
    return small(**{**known, **changes})


def context(port: int, http: GuardedClient, **changes: Any) -> Context:
    return vendor_context(config=document(port, **changes), http=http, endpoint="webhook/customer")


async def test_an_endpoint_without_a_handler_is_forwarded_where_its_route_is_listed(
    service: tuple[Service, int], http: GuardedClient
) -> None:
    served, port = service
    configuration = parse_configuration(document(port))
    resolution = resolve("webhook/customer", configuration, PLUGIN)
    assert resolution.source == "sidecar"
    handler = resolution.steps[0].handler
    assert isinstance(handler, SidecarForwardHandler)
    done = await handler.handle({"name": "x"}, context(port, http))
    assert done == Completed({"forwarded_to": "webhook/customer", "data": [{"sku": "a"}]})
    ((method, path, body),) = served.calls
    assert (method, path, body["tenant_id"], body["data"]) == ("POST", "/webhook/customer", "1", {"name": "x"})
    for refused in (document(port, plugin_routes=[]), document(port, transport="direct")):
        with pytest.raises(Permanent, match="CustomerWebhookHandler"):
            resolve("webhook/customer", parse_configuration(refused), PLUGIN)
    misnamed = document(port, route_handlers={"webhook/customer": "Gone"})
    with pytest.raises(Permanent, match=r"Gone \(route_handlers\)"):
        resolve("webhook/customer", parse_configuration(misnamed), PLUGIN)
    # What has a handler keeps it.
    assert resolve("webhook/order", configuration, PLUGIN).source == "target_class"


@pytest.mark.parametrize(
    ("status", "envelope", "error"),
    [
        (200, {"status": 500, "message": "upstream is down"}, Retryable),
        (200, {"status": 429, "message": ["slow", "down"]}, Retryable),
        (200, {"status": 422, "message": ["quantity", "sku"], "data": None}, UpstreamRefused),
        (404, {"status": 200, "data": 1}, UpstreamRefused),
        (503, {}, Retryable),
    ],
)
async def test_the_envelopes_status_counts(
    service: tuple[Service, int], http: GuardedClient, status: int, envelope: dict[str, Any], error: type[Exception]
) -> None:
    served, port = service
    served.status, served.envelope = status, envelope
    with pytest.raises(error):
        await Sidecar("1", document(port), http).call("POST", "orders")


async def test_a_route_that_is_not_listed_is_not_called(service: tuple[Service, int], http: GuardedClient) -> None:
    served, port = service
    sidecar = Sidecar("1", document(port), http)
    for method, route in (("POST", "categories"), ("GET", "orders"), ("POST", "admin"), ("POST", "orders/../admin")):
        with pytest.raises(RouteNotListed, match="not among the tenant's plugin_routes"):
            await sidecar.call(method, route)
    with pytest.raises(Permanent, match="plugin_port"):
        await Sidecar("1", document(1) | {"plugin_port": None}, http).call("POST", "orders")
    assert served.calls == []


async def test_a_sidecar_is_reached_only_where_the_operator_allows_it(service: tuple[Service, int]) -> None:
    served, port = service
    async with GuardedClient((), timeout_s=5) as closed:
        with pytest.raises(Permanent):
            await Sidecar("1", document(port), closed).call("GET", "categories")
    assert served.calls == []


async def test_the_managers_calls_go_to_the_sidecar(service: tuple[Service, int], http: GuardedClient) -> None:
    served, port = service
    config = document(port, sku_map={"A": "flyers"})
    manager = SidecarManager(DwdPluginManager("1", config, http), Sidecar("1", config, http))
    assert await manager.get_categories() == [{"sku": "a"}]
    served.envelope = {"data": {"product_price": 12}, "status": 200}
    assert await manager.get_price(5, {"sku": "A", "specs": {"size": "a5"}}) == {"product_price": 12}
    assert served.calls == [
        ("GET", "/categories", {"tenant_id": "1"}),
        (
            "POST",
            "/get-price",
            {"tenant_id": "1", "sku": "flyers", "options": {"size": "a5", "quantity": 5}, "address": None},
        ),
    ]
    assert await manager.check() is None
    served.envelope = {"status": 401, "message": "bad credentials"}
    assert "bad credentials" in str(await manager.check())


async def test_the_service_takes_the_tenants_transport(service: tuple[Service, int], http: GuardedClient) -> None:
    class Sink:
        def accept(self, request: WebhookRequested) -> Accepted:
            return Accepted(request.event_id)

    served, port = service
    tenants = MemoryTenantRepository()
    tenants.create("By sidecar", document(port))
    plugin = PluginService(tenants, PluginRegistry({"dwd": PLUGIN}), Sink(), http).load(1)
    assert await plugin.get_categories() == [{"sku": "a"}]
    assert [call[1] for call in served.calls] == ["/categories"]


async def test_orders_go_to_the_sidecar_and_doubt_stays_doubt(
    service: tuple[Service, int], http: GuardedClient
) -> None:
    served, port = service
    served.envelope = {"data": {"id": 9}, "status": 200}
    handler = OrderByTransport(OrderWebhookHandler())
    assert handler.settle_s == OrderWebhookHandler.settle_s
    given = context(port, http)
    assert await handler.handle(dict(ORDER), given) == Completed({"status": "placed", "data": {"id": 9}})
    assert served.calls[0][2] == {"tenant_id": "1", "order": ORDER}
    assert isinstance(await handler.handle({"items": []}, given), Rejected)
    served.envelope = {"status": 422, "message": "no such sku"}
    assert isinstance(await handler.handle(dict(ORDER), given), Rejected)
    served.envelope = {"status": 500}
    with pytest.raises(Unknown):
        await handler.handle(dict(ORDER), given)
    with pytest.raises(Unknown, match="cannot be asked"):
        await handler.reconcile(dict(ORDER), given)
    for transport in ("direct", "sidecar"):
        unlisted = replace(given, config={**given.config, "transport": transport, "plugin_routes": []})
        with pytest.raises(RouteNotListed):
            await handler.handle(dict(ORDER), unlisted)
    direct = replace(given, config={**given.config, "transport": "direct", "auth": {"url": "http://127.0.0.1:9"}})
    with pytest.raises(Retryable):
        await handler.handle(dict(ORDER), direct)
