from typing import Any
from uuid import UUID

import pytest

from handlers.contract import Context, PluginManifest
from handlers.dwd.manifest import PLUGIN
from handlers.registry import PluginRegistry
from handlers.results import Completed
from handlers.service import (
    Accepted,
    LoadedPlugin,
    PluginService,
    PluginUnavailable,
    TriggerRequest,
    UnknownTenant,
)
from handlers.tenants.current import NoCurrentTenant, tenant_context
from handlers.tenants.repository import MemoryTenantRepository, TenantUnusable
from schemas.codec import decode, encode
from schemas.errors import Retryable
from schemas.events import WebhookRequested
from tests.handlers.examples import small


class Export:
    async def handle(self, payload: dict[str, Any], context: Context) -> Completed:
        return Completed({})


class Sink:
    """Keeps what it is given, or is away."""

    def __init__(self) -> None:
        self.requests: list[WebhookRequested] = []
        self.away = False

    def accept(self, request: WebhookRequested) -> Accepted:
        if self.away:
            raise Retryable("the database is away")
        assert decode(encode(request)) == request
        self.requests.append(request)
        return Accepted(request.event_id)


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def tenants() -> MemoryTenantRepository:
    tenants = MemoryTenantRepository()
    tenants.create("Acme", small(route_handlers={"webhook/order/export": "Export"}), ["acme.example"])
    tenants.create("Other", small(plugin_route_prefix="gone", plugin_name="gone.example"))
    return tenants


@pytest.fixture
def service(tenants: MemoryTenantRepository, sink: Sink) -> PluginService:
    manifest = PluginManifest(
        id="dwd", version="2.0.0", handlers={**PLUGIN.handlers, "Export": Export}, manager=PLUGIN.manager
    )
    return PluginService(tenants, PluginRegistry({"dwd": manifest}), sink)


@pytest.fixture
def plugin(service: PluginService) -> LoadedPlugin:
    return service.load(1)


@pytest.mark.parametrize("name", [1, "1", "acme.example", "ACME.example"])
def test_a_plugin_is_loaded_by_id_or_hostname(service: PluginService, name: str | int) -> None:
    assert service.load(name).tenant.name == "Acme"


def test_without_a_name_the_current_tenants_is_loaded(service: PluginService) -> None:
    with tenant_context(1):
        assert service.load().tenant.id == "1"
    with pytest.raises(NoCurrentTenant, match=r"load\(\)"):
        service.load()


def test_each_reason_not_to_load_has_its_own_words(service: PluginService, tenants: MemoryTenantRepository) -> None:
    with pytest.raises(UnknownTenant, match="id '9'"):
        service.load(9)
    with pytest.raises(UnknownTenant, match=r"hostname 'x\.example'"):
        service.load("x.example")
    with pytest.raises(PluginUnavailable, match="'gone' is not installed; installed are: dwd"):
        service.load(2)

    def unusable(tenant_id: str) -> None:
        raise TenantUnusable("tenant 1 has no configuration")

    tenants.get = unusable  # type: ignore[method-assign]
    with pytest.raises(PluginUnavailable, match="no configuration"):
        service.load(1)


def test_the_seeds_call_is_accepted_with_its_options(plugin: LoadedPlugin, sink: Sink) -> None:
    result = plugin.trigger_webhook(
        endpoint="webhook/order/export",
        payload={"order_ids": [123, 124], "format": "xlsx"},
        event_type="bulk_export",
        run_async=True,
        options={"priority": 7, "delay": 0},
    )

    assert result
    assert result.reason is None
    (request,) = sink.requests
    assert result.event_id == request.event_id
    assert (request.tenant_id, request.endpoint, request.event_type) == ("1", "webhook/order/export", "bulk_export")
    assert (request.priority, request.delay_s, request.trigger) == (7, 0, "service")
    assert request.payload == '{"order_ids":[123,124],"format":"xlsx"}'


def test_defaults_are_manual_trigger_without_priority_or_delay(plugin: LoadedPlugin, sink: Sink) -> None:
    assert plugin.trigger_webhook("webhook/order", {})
    (request,) = sink.requests
    assert (request.event_type, request.priority, request.delay_s) == ("manual_trigger", None, None)
    assert (request.model, request.model_id) == (None, None)


def test_event_ids_are_version_7_uuids_of_their_own_in_time_order(plugin: LoadedPlugin) -> None:
    ids = [plugin.trigger_webhook("webhook/order", {}).event_id or "" for _ in range(200)]

    assert len(set(ids)) == 200
    assert {UUID(each).version for each in ids} == {7}
    assert {UUID(each).variant for each in ids} == {"specified in RFC 4122"}
    assert [each[:13] for each in ids] == sorted(each[:13] for each in ids)


def test_a_model_keeps_its_key(plugin: LoadedPlugin, sink: Sink) -> None:
    assert plugin.trigger_webhook("webhook/order", {}, options={"model_type": "Order", "model_id": 7})
    assert (sink.requests[0].model, sink.requests[0].model_id) == ("Order", "7")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ({"payload": [1]}, "bad_payload", "must be a JSON object, not an array"),
        ({"payload": {"a": "x" * 262_144}}, "too_large", "at most 262144"),
        ({"options": {"priority": 0}}, "bad_option", "priority must be a whole number from 1 to 10, not 0"),
        ({"options": {"priority": 11}}, "bad_option", "priority"),
        ({"options": {"priority": True}}, "bad_option", "priority"),
        ({"options": {"priority": "9"}}, "bad_option", "priority"),
        ({"options": {"priority": 5.0}}, "bad_option", "priority"),
        ({"options": {"delay": -1}}, "bad_option", "delay must be a whole number of seconds"),
        ({"options": {"delay": 1e3}}, "bad_option", "delay"),
        ({"options": {"delay": 10**10}}, "bad_option", "delay"),
        ({"options": {"prioriti": 5}}, "bad_option", "unknown option prioriti; known are"),
        ({"options": {"model_type": "Order"}}, "bad_option", "belong together"),
        ({"event_type": ""}, "bad_option", "event_type"),
        ({"endpoint": "webhook/nothing"}, "unknown_endpoint", "NothingWebhookHandler (convention)"),
        ({"endpoint": ""}, "unknown_endpoint", "Configured endpoints: webhook/order, webhook/order/export"),
        ({"run_async": False}, "foreground_unsupported", "run_async"),
    ],
)
def test_what_cannot_be_accepted_is_refused_with_the_reason(
    plugin: LoadedPlugin, sink: Sink, arguments: dict[str, Any], code: str, words: str
) -> None:
    result = plugin.trigger_webhook(**{"endpoint": "webhook/order", "payload": {}, **arguments})

    assert not result
    assert result.code == code
    assert words in (result.reason or "")
    assert sink.requests == []


def test_an_outage_is_a_refusal_that_says_so(plugin: LoadedPlugin, sink: Sink) -> None:
    sink.away = True
    result = plugin.trigger_webhook("webhook/order", {})
    assert not result
    assert (result.code, result.reason) == ("unavailable", "the database is away")


def test_other_doors_name_themselves_and_may_ask_again_for_the_same_event(plugin: LoadedPlugin, sink: Sink) -> None:
    wanted = TriggerRequest(endpoint="/webhook/order/", payload={})
    event_id = "0190b3a0-0000-7000-8000-000000000001"
    for _ in range(2):
        assert plugin.accept(wanted, trigger="http", requested_by="ci", event_id=event_id).event_id == event_id
    assert {(each.trigger, each.requested_by, each.endpoint) for each in sink.requests} == {
        ("http", "ci", "webhook/order")
    }


def test_a_call_to_the_upstream_needs_a_client(plugin: LoadedPlugin) -> None:
    with pytest.raises(PluginUnavailable, match="HTTP client"):
        plugin.get_sync_pipeline_config()
