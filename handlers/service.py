"""The seed's ``PluginService``: load a tenant's plugin, call it, trigger webhooks by hand."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from handlers.call_backs import call_back_request
from handlers.contract import HttpClient, PluginManager, PluginManifest
from handlers.loading import (
    CapabilityMissing,
    NotConfigured,
    PluginDisabled,
    PluginNotInstalled,
    UnknownHostname,
    UnknownTenant,
)
from handlers.payloads import (
    PAYLOAD_LIMIT_BYTES,
    Refusal,
    Refused,
)
from handlers.redaction import redacted
from handlers.registry import PluginMissing, PluginRegistry
from handlers.requests import TriggerRequest, checked_request
from handlers.resolution import endpoint_name
from handlers.sidecar import Sidecar, SidecarManager
from handlers.tenants.current import current_tenant_id
from handlers.tenants.repository import Tenant, TenantReader
from handlers.transactions import inside_model_transaction
from schemas.errors import Permanent, Retryable
from schemas.events import WebhookRequested
from topics.keys import model_key_text

_TEXT_OPTIONS: Final = ("ordering", "on_exhausted", "dedupe_key")
_OPTIONS: Final = frozenset({"priority", "delay", "model_type", "model_id", "dedupe_for_s", *_TEXT_OPTIONS})

FOREGROUND_S: Final = 30.0
"""How long a trigger in the foreground waits for the outcome, seconds: then the event goes on without its caller."""
_POLL_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Accepted:
    """A request that is durable: it will be carried out."""

    event_id: str


class EventSink(Protocol):
    """Where accepted requests go."""

    def accept(self, request: WebhookRequested) -> Accepted:
        """Make the request durable before returning. Blocks. Raises ``Retryable`` where that cannot be done now."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an event has ended. ``status`` as in the history, ``result`` the handler's where it has one."""

    status: str
    result: Mapping[str, Any] | None
    reason: str | None


class OutcomeReader(Protocol):
    """Reads how events have ended."""

    def outcome(self, event_id: str) -> Outcome | None:
        """The event's outcome; ``None`` while it has none. Blocks. Raises ``Retryable`` where it cannot be read now."""


@dataclass(frozen=True, slots=True)
class TriggerResult:
    """Truthy when the webhook was accepted; else ``reason`` says why not, and ``code`` says it to programs.

    In the foreground it is falsy also where the event failed. ``outcome`` is ``None`` where it goes on.
    """

    event_id: str | None = None
    code: Refusal | None = None
    reason: str | None = None
    outcome: Outcome | None = None

    def __bool__(self) -> bool:
        return self.event_id is not None and self.code is None


class LoadedPlugin:
    """A tenant's plugin. The calls that reach the upstream are coroutines; ``trigger_webhook`` blocks."""

    def __init__(
        self,
        tenant: Tenant,
        manifest: PluginManifest,
        sink: EventSink,
        http: HttpClient | None = None,
        payload_limit_bytes: int = PAYLOAD_LIMIT_BYTES,
        outcomes: OutcomeReader | None = None,
    ) -> None:
        self._outcomes = outcomes
        self.tenant = tenant
        self.manifest = manifest
        self._sink = sink
        self._http = http
        self._payload_limit_bytes = payload_limit_bytes
        self._secrets = tenant.configuration.document, manifest.config_schema

    @property
    def manager(self) -> PluginManager:
        """The plugin's manager for this tenant. Raises ``CapabilityMissing`` where it has none."""
        if self.manifest.manager is None or self._http is None:
            lacking = "manager" if self.manifest.manager is None else "HTTP client to be called with"
            raise CapabilityMissing(f"plugin {self.manifest.id} has no {lacking}")
        config = self.tenant.configuration.document
        manager = self.manifest.manager(self.tenant.id, config, self._http)
        if self.tenant.configuration.transport == "direct":
            return manager
        return SidecarManager(manager, Sidecar(self.tenant.id, config, self._http))

    async def get_categories(self) -> list[dict[str, Any]]:
        """See ``PluginManager``. Raises ``CapabilityMissing`` where ``plugin_routes`` does not list it."""
        self._require_route("categories", "GET")
        return await redacted(self.manager.get_categories(), *self._secrets)

    async def get_price(self, quantity: int, product_data: Mapping[str, Any]) -> dict[str, Any]:
        """See ``PluginManager``. Raises ``CapabilityMissing`` where ``plugin_routes`` does not list it."""
        self._require_route("get-price", "POST")
        return await redacted(self.manager.get_price(quantity, product_data), *self._secrets)

    def _require_route(self, route: str, method: str) -> None:
        """Refuse a route that the plugin has and the tenant does not list."""
        if (route, method) in self.manifest.routes and not self.tenant.configuration.lists_route(route, method):
            raise CapabilityMissing(f"{method} {route} is not among the plugin_routes of tenant {self.tenant.id}")

    def get_sync_pipeline_config(self) -> list[dict[str, Any]]:
        """See ``PluginManager``."""
        return self.manager.get_sync_pipeline_config()

    def trigger_webhook(
        self,
        endpoint: str,
        payload: object,
        event_type: str = "manual_trigger",
        run_async: bool = True,
        options: Mapping[str, object] | None = None,
    ) -> TriggerResult:
        """Ask for a webhook; when the result is truthy it is durable. Never raises for what a caller can get wrong.

        With ``run_async=False``, or where the endpoint's entry says ``queue_mode: foreground``, it waits up to
        ``FOREGROUND_S`` seconds for the outcome; a worker carries the event out all the same, so it runs once. Inside a
        transaction that has written a model the first is refused, and the second does not wait.
        ``options``: ``priority`` 1 to 10, ``delay`` in whole seconds, ``model_type`` and ``model_id``,
        ``ordering`` (``default``, ``strict``) and ``on_exhausted`` (``skip``, ``halt``), ``dedupe_key`` and
        ``dedupe_for_s``: see ``TriggerRequest``.
        """
        options = options or {}
        unknown = sorted(set(options) - _OPTIONS)
        if unknown:
            known = ", ".join(sorted(_OPTIONS))
            return TriggerResult(code="bad_option", reason=f"unknown option {', '.join(unknown)}; known are {known}")
        if self._outcomes is None and not run_async:
            reason = "run_async=False needs the history, and this service was made without it; leave it out"
            return TriggerResult(code="foreground_unsupported", reason=reason)
        if not run_async and inside_model_transaction():
            reason = (
                "run_async=False inside a transaction that has written a model would keep its locks until the outcome; "
                "trigger after the commit, or leave it out"
            )
            return TriggerResult(code="inside_transaction", reason=reason)
        model, model_id = options.get("model_type"), options.get("model_id")
        request = TriggerRequest(
            endpoint=endpoint,
            payload=payload,
            event_type=event_type,
            priority=options.get("priority"),
            delay_s=options.get("delay"),
            model=None if model is None else str(model),
            model_id=None if model_id is None else model_key_text(model_id),
            dedupe_for_s=options.get("dedupe_for_s"),
            **{name: str(options[name]) for name in _TEXT_OPTIONS if options.get(name) is not None},
        )
        accepted = self.accept(request, trigger="service")
        if self._outcomes is None or not self.in_foreground(endpoint, run_async) or inside_model_transaction():
            return accepted
        return self._ended(accepted, self._outcomes)

    def in_foreground(self, endpoint: str, run_async: bool) -> bool:
        """Whether a trigger's caller waits for the outcome: as it says, or as the endpoint's entry does."""
        configuration = self.tenant.configuration
        entry = configuration.entry_for(endpoint_name(endpoint, configuration))
        return not run_async or (entry is not None and entry.queue_mode == "foreground")

    def _ended(self, accepted: TriggerResult, outcomes: OutcomeReader) -> TriggerResult:
        """The accepted request with its outcome, or as it is where it has none in time."""
        until = time.monotonic() + FOREGROUND_S
        while accepted.event_id is not None and time.monotonic() < until:
            try:
                outcome = outcomes.outcome(accepted.event_id)
            except Retryable:
                # The event is accepted: an outage only keeps its outcome from being seen.
                outcome = None
            if outcome is not None:
                failed = outcome.status != "completed"
                return replace(
                    accepted,
                    code="failed" if failed else None,
                    reason=outcome.reason if failed else None,
                    outcome=outcome,
                )
            time.sleep(_POLL_S)
        return accepted

    def accept(
        self,
        request: TriggerRequest,
        *,
        trigger: str,
        requested_by: str | None = None,
        event_id: str | None = None,
        sink: EventSink | None = None,
    ) -> TriggerResult:
        """Check a request and make it durable. ``trigger`` is service, http, cli or inbound.

        ``event_id`` (a UUID) lets a caller that had no answer ask again for the same event. ``sink`` takes it in place
        of the service's own.
        """
        try:
            checked = checked_request(request, self.tenant, self.manifest, self._payload_limit_bytes)
        except Refused as refused:
            return TriggerResult(code=refused.code, reason=str(refused))
        checked.trigger = trigger
        checked.requested_by = requested_by
        checked.event_id = event_id or checked.event_id
        try:
            return TriggerResult(event_id=(sink or self._sink).accept(checked).event_id)
        except Retryable as error:
            return TriggerResult(code="unavailable", reason=str(error))


class PluginService:
    """Loads tenants' plugins."""

    def __init__(
        self,
        tenants: TenantReader,
        registry: PluginRegistry,
        sink: EventSink,
        http: HttpClient | None = None,
        payload_limit_bytes: int = PAYLOAD_LIMIT_BYTES,
        outcomes: OutcomeReader | None = None,
    ) -> None:
        """``http`` is needed for calls to upstreams only, ``outcomes`` for triggers in the foreground only.

        ``payload_limit_bytes`` bounds a payload as JSON.
        """
        self._tenants = tenants
        self._registry = registry
        self._sink = sink
        self._make: Callable[[Tenant, PluginManifest], LoadedPlugin] = lambda tenant, manifest: LoadedPlugin(
            tenant, manifest, sink, http, payload_limit_bytes, outcomes
        )

    def load(self, tenant: str | int | None = None) -> LoadedPlugin:
        """The plugin of a tenant: by id, by hostname, or of the current one.

        Raises ``NoCurrentTenant``, ``UnknownTenant`` or ``UnknownHostname``, ``NotConfigured``, ``PluginDisabled``,
        ``PluginNotInstalled``, and ``Retryable`` where the tenants' database is away.
        """
        name = current_tenant_id("load()") if tenant is None else str(tenant).strip()
        found = self.tenant(name)
        try:
            return self._make(found, self._registry.for_tenant(found))
        except PluginMissing as error:
            raise PluginNotInstalled(str(error)) from error
        except Permanent as error:
            raise PluginDisabled(str(error)) from error

    def call_back(
        self,
        tenant: str | int,
        key: object,
        payload: object,
        *,
        requested_by: str | None = None,
        call_back_id: str | None = None,
    ) -> TriggerResult:
        """Tell a tenant's handler that waits with ``key`` what it waits for; ``event_id`` is the call-back's own id.

        When the result is truthy it is durable. It counts also where nobody waits yet; a second one with the same key
        is ignored. ``call_back_id`` (a UUID) lets a caller that had no answer say the same again. Raises as ``tenant``.
        """
        found = self.tenant(str(tenant).strip())
        try:
            request = call_back_request(found.id, key, payload, requested_by, call_back_id)
            return TriggerResult(event_id=self._sink.accept(request).event_id)
        except Refused as refused:
            return TriggerResult(code=refused.code, reason=str(refused))
        except Retryable as error:
            return TriggerResult(code="unavailable", reason=str(error))

    def tenant(self, name: str) -> Tenant:
        """The tenant of an id or a hostname. Raises as ``load`` does."""
        # All digits is an id: no public hostname is.
        try:
            found = self._tenants.get(name) if name.isdigit() else self._tenants.by_hostname(name)
        except Permanent as error:
            raise NotConfigured(str(error)) from error
        if found is None:
            kind, cause = ("id", UnknownTenant) if name.isdigit() else ("hostname", UnknownHostname)
            raise cause(f"no tenant has the {kind} {name!r}; `webhook tenants list` shows all")
        return found
