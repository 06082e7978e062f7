"""How a tenant's handlers are carried out: upstream, caution and threads (R6, R15)."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from handlers.contract import Context, PluginManifest
from handlers.dwd.manifest import PLUGIN as DWD
from handlers.printcom.manifest import PLUGIN as PRINTCOM
from handlers.registry import PluginRegistry
from handlers.results import Completed, NotFound
from handlers.tenants.configuration import parse_configuration
from handlers.tenants.repository import Tenant
from streams.agents.executions import Caution, Execution, TenantExecutions, idempotency_key, upstream_of
from tests.streams.engine.workload import task_ready


@pytest.mark.parametrize(
    ("manifest", "config", "host"),
    [
        (DWD, {}, "api.printdeal.com"),
        (DWD, {"auth": {"url": "https://Sandbox.Example.com:8443/api"}}, "sandbox.example.com"),
        (PRINTCOM, {"production": True}, "api.print.com"),
        (PRINTCOM, {}, "api.stg.print.com"),
        (PRINTCOM, {"auth": {"url": "http://[::1"}}, None),
        (PluginManifest("other", "1", {}), {}, None),
    ],
)
def test_the_host_is_that_of_the_plugins_address(
    manifest: PluginManifest, config: dict[str, Any], host: str | None
) -> None:
    assert upstream_of(manifest, config) == host


def test_steps_that_call_nobody_have_no_circuit() -> None:
    calls = {name: getattr(DWD.handler(name), "calls_upstream", True) for name in DWD.handlers}
    assert [name for name, called in calls.items() if not called] == ["OrderValidationHandler", "OrderTransformHandler"]


class Plain:
    """A handler as an author writes it who does not know ``async``."""

    def handle(self, payload: dict[str, Any], context: Context) -> Completed:
        context.log.info("runs")
        return Completed({"thread": threading.current_thread().name, "id": payload["id"]})


class Once(Plain):
    at_most_once = True
    settle_s = 7.0

    def reconcile(self, payload: dict[str, Any], context: Context) -> NotFound:
        assert payload["id"] == 1
        return NotFound()


class Ordinary:
    async def handle(self, payload: dict[str, Any], context: Context) -> Completed:
        return Completed({"thread": threading.current_thread().name})


async def execution_of(handler: Any) -> Execution:
    """As a worker finds it for a tenant whose plugin has only this handler."""
    plugin = PluginManifest("acme", "1", {"OrderWebhookHandler": handler})
    document = {"plugin_name": "acme", "plugin_route_prefix": "acme", "webhook_settings": []}
    tenant = Tenant("1", "u", "Acme", (), parse_configuration(document))
    tenants = SimpleNamespace(peek=lambda _: tenant, get=lambda _: tenant)
    http: Any = None
    return await TenantExecutions(tenants, PluginRegistry({"acme": plugin}), http, 30.0).lookup(task_ready("e"))


async def test_a_plain_function_runs_in_a_thread_and_with_caution() -> None:
    execution = await execution_of(Plain)
    result = await execution.run(task_ready("e"))
    assert isinstance(result, Completed)
    assert result.result["thread"].startswith("handler-")
    assert result.result["id"] == 1
    assert execution.caution == Caution(at_most_once=False)


async def test_what_acts_at_most_once_says_how_it_is_looked_for() -> None:
    caution = (await execution_of(Once)).caution
    assert caution is not None
    assert (caution.at_most_once, caution.settle_s) == (True, 7.0)
    assert caution.reconcile is not None
    assert await caution.reconcile(task_ready("e")) == NotFound()


async def test_an_ordinary_handler_costs_no_caution() -> None:
    execution = await execution_of(Ordinary)
    assert execution.caution is None
    assert await execution.run(task_ready("e")) == Completed({"thread": threading.current_thread().name})


def test_the_idempotency_key_is_that_of_a_handlers_run_whatever_its_attempt() -> None:
    """R10: equal for each attempt, so that a vendor knows a repeated call; another for a replay, handler or step."""
    task = task_ready("e", attempt=1)
    key = idempotency_key(task, "Order")
    assert idempotency_key(task_ready("e", attempt=7, dispatch_seq=3), "Order") == key
    others = [task_ready("e", run=2), task_ready("e", step=1), task_ready("f")]
    keys = {key, idempotency_key(task, "Quote"), *(idempotency_key(each, "Order") for each in others)}
    assert len(keys) == 5
