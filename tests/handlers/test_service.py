from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from handlers.contract import Context, PluginManifest
from handlers.dwd.manager import DwdPluginManager
from handlers.dwd.manifest import PLUGIN
from handlers.loading import (
    CapabilityMissing,
    NotConfigured,
    PluginDisabled,
    PluginNotInstalled,
    UnknownHostname,
    UnknownTenant,
)
from handlers.registry import PluginRegistry
from handlers.requests import TriggerRequest
from handlers.results import Completed
from handlers.service import (
    Accepted,
    LoadedPlugin,
    Outcome,
    PluginService,
)
from handlers.tenants.current import NoCurrentTenant, tenant_context
from handlers.tenants.repository import MemoryTenantRepository, TenantUnusable
from schemas.codec import decode, encode
from schemas.errors import Permanent, Retryable
from schemas.events import WebhookRequested
from tests.handlers.examples import small
from tests.handlers.test_contract import Recorder


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
    with pytest.raises(UnknownHostname, match=r"hostname 'x\.example'"):
        service.load("x.example")
    with pytest.raises(PluginNotInstalled, match="'gone' is not installed; installed are: dwd"):
        service.load(2)

    acme = tenants.get("1")
    assert acme is not None
    tenants._tenants["1"] = replace(acme, plugin_enabled=False)
    with pytest.raises(PluginDisabled, match="tenant 1 is switched off"):
        service.load(1)

    def unusable(tenant_id: str) -> None:
        raise TenantUnusable("tenant 1 has no configuration")

    tenants.get = unusable  # type: ignore[method-assign]
    with pytest.raises(NotConfigured, match="no configuration"):
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


def test_a_key_that_makes_triggers_one_event_goes_with_them(plugin: LoadedPlugin, sink: Sink) -> None:
    assert plugin.trigger_webhook("webhook/order", {}, options={"dedupe_key": "order-7", "dedupe_for_s": 60})
    assert sink.requests[0].options == {"dedupe_key": "order-7", "dedupe_for_s": "60"}
    for wrong in ({"dedupe_for_s": 60}, {"dedupe_key": ""}, {"dedupe_key": "a\x00"}, {"dedupe_key": "x" * 201}):
        assert plugin.trigger_webhook("webhook/order", {}, options=wrong).code == "bad_option"


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


class Outcomes:
    """The history: an event has its outcome when it is asked for the third time."""

    def __init__(self, outcome: Outcome) -> None:
        self.asked: list[str] = []
        self._outcome = outcome

    def outcome(self, event_id: str) -> Outcome | None:
        self.asked.append(event_id)
        return self._outcome if len(self.asked) == 3 else None


def in_foreground(tenants: MemoryTenantRepository, sink: Sink, outcomes: Outcomes) -> LoadedPlugin:
    return PluginService(tenants, PluginRegistry({"dwd": PLUGIN}), sink, outcomes=outcomes).load(1)


def test_in_the_foreground_the_outcome_is_awaited(tenants: MemoryTenantRepository, sink: Sink) -> None:
    outcomes = Outcomes(Outcome("completed", {"uuid": "u"}, None))
    result = in_foreground(tenants, sink, outcomes).trigger_webhook("webhook/order", {}, run_async=False)
    assert result
    assert result.outcome is not None
    assert result.outcome.result == {"uuid": "u"}
    assert outcomes.asked == [result.event_id] * 3
    assert len(sink.requests) == 1


def test_a_failure_in_the_foreground_is_falsy_and_says_why(tenants: MemoryTenantRepository, sink: Sink) -> None:
    outcomes = Outcomes(Outcome("failed_permanently", None, "no such sku"))
    result = in_foreground(tenants, sink, outcomes).trigger_webhook("webhook/order", {}, run_async=False)
    assert not result
    assert (result.code, result.reason) == ("failed", "no such sku")
    assert result.event_id is not None


def test_an_entry_may_ask_for_the_foreground(tenants: MemoryTenantRepository, sink: Sink) -> None:
    entry = {"webhook_endpoint": "webhook/order", "queue_mode": "foreground"}
    tenants.configure("1", small(webhook_settings=[entry]))
    outcomes = Outcomes(Outcome("completed", None, None))
    assert in_foreground(tenants, sink, outcomes).trigger_webhook("webhook/order", {}).outcome is not None
    background = Outcomes(Outcome("completed", None, None))
    tenants.configure("1", small())
    assert in_foreground(tenants, sink, background).trigger_webhook("webhook/order", {}).outcome is None
    assert background.asked == []


def test_what_takes_too_long_in_the_foreground_goes_on_without_its_caller(
    tenants: MemoryTenantRepository, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handlers.service.FOREGROUND_S", 0.0)
    outcomes = Outcomes(Outcome("completed", None, None))
    result = in_foreground(tenants, sink, outcomes).trigger_webhook("webhook/order", {}, run_async=False)
    assert result
    assert result.outcome is None


def test_what_is_refused_is_not_waited_for(tenants: MemoryTenantRepository, sink: Sink) -> None:
    outcomes = Outcomes(Outcome("completed", None, None))
    result = in_foreground(tenants, sink, outcomes).trigger_webhook("webhook/nothing", {}, run_async=False)
    assert result.code == "unknown_endpoint"
    assert outcomes.asked == []


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
    with pytest.raises(CapabilityMissing, match="HTTP client"):
        plugin.get_sync_pipeline_config()


@pytest.mark.parametrize("call", ["price", "categories"])
async def test_what_a_managers_call_raises_holds_no_secret(call: str, tenants: MemoryTenantRepository) -> None:
    class Manager(DwdPluginManager):
        async def get_categories(self) -> list[dict[str, Any]]:
            raise Retryable("the upstream refused s3cr3t-canary", code="http_500", retry_after_s=3)

        async def get_price(self, quantity: int, product_data: Mapping[str, Any]) -> dict[str, Any]:
            raise Permanent("the upstream refused s3cr3t-canary")

    auth = {"client_id": "a", "secret": "s3cr3t-canary"}
    tenant = tenants.create("Shop", small(auth=auth, plugin_routes=[{"route": "categories", "method": "GET"}]))
    plugin = LoadedPlugin(tenant, replace(PLUGIN, manager=Manager), Sink(), Recorder())
    with pytest.raises((Retryable, Permanent)) as raised:
        await (plugin.get_categories() if call == "categories" else plugin.get_price(1, {}))
    assert str(raised.value) == "the upstream refused [redacted]"
    assert raised.value.__cause__ is None
    assert getattr(raised.value, "retry_after_s", 3) == 3
