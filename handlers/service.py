"""The seed's ``PluginService``: load a tenant's plugin, call it, trigger webhooks by hand."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from handlers.contract import HttpClient, PluginManager, PluginManifest
from handlers.payloads import LONGEST_DELAY_S, PAYLOAD_LIMIT_BYTES, Refusal, Refused, payload_text
from handlers.registry import PluginRegistry
from handlers.resolution import resolve
from handlers.tenants.current import current_tenant_id
from handlers.tenants.repository import Tenant, TenantReader
from schemas.errors import Permanent, Retryable
from schemas.events import WebhookRequested, now_micros
from schemas.identifiers import new_event_id
from topics.keys import model_key_text

_OPTIONS: Final = frozenset({"priority", "delay", "model_type", "model_id"})


@dataclass(frozen=True, slots=True)
class Accepted:
    """A request that is durable: it will be carried out."""

    event_id: str


class EventSink(Protocol):
    """Where accepted requests go."""

    def accept(self, request: WebhookRequested) -> Accepted:
        """Make the request durable before returning. Blocks. Raises ``Retryable`` where that cannot be done now."""


@dataclass(frozen=True, slots=True)
class TriggerResult:
    """Truthy when the webhook was accepted; else ``reason`` says why not, and ``code`` says it to programs."""

    event_id: str | None = None
    code: Refusal | None = None
    reason: str | None = None

    def __bool__(self) -> bool:
        return self.event_id is not None


class PluginLoadError(LookupError):
    """A plugin cannot be loaded for a tenant; each subclass is one cause."""


class UnknownTenant(PluginLoadError):
    """No tenant has that id or hostname."""


class PluginUnavailable(PluginLoadError):
    """The tenant's plugin is not installed, broken or switched off, or its configuration cannot be used."""


@dataclass(frozen=True, slots=True)
class TriggerRequest:
    """What is asked for, before it is checked.

    ``priority`` is 1 to 10, ``delay_s`` whole seconds; ``model`` and ``model_id`` keep the order with that row's
    other events.
    """

    endpoint: str
    payload: object
    event_type: str = "manual_trigger"
    priority: object = None
    delay_s: object = None
    model: str | None = None
    model_id: str | None = None


class LoadedPlugin:
    """A tenant's plugin. The calls that reach the upstream are coroutines; ``trigger_webhook`` blocks shortly."""

    def __init__(
        self,
        tenant: Tenant,
        manifest: PluginManifest,
        sink: EventSink,
        http: HttpClient | None = None,
        payload_limit_bytes: int = PAYLOAD_LIMIT_BYTES,
    ) -> None:
        self.tenant = tenant
        self.manifest = manifest
        self._sink = sink
        self._http = http
        self._payload_limit_bytes = payload_limit_bytes

    @property
    def manager(self) -> PluginManager:
        """The plugin's manager for this tenant. Raises ``PluginUnavailable`` where it has none."""
        if self.manifest.manager is None or self._http is None:
            lacking = "manager" if self.manifest.manager is None else "HTTP client to be called with"
            raise PluginUnavailable(f"plugin {self.manifest.id} has no {lacking}")
        return self.manifest.manager(self.tenant.id, self.tenant.configuration.document, self._http)

    async def get_categories(self) -> list[dict[str, Any]]:
        """See ``PluginManager``."""
        return await self.manager.get_categories()

    async def get_price(self, quantity: int, product_data: Mapping[str, Any]) -> dict[str, Any]:
        """See ``PluginManager``."""
        return await self.manager.get_price(quantity, product_data)

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

        ``options``: ``priority`` 1 to 10, ``delay`` in whole seconds, ``model_type`` and ``model_id``.
        """
        options = options or {}
        unknown = sorted(set(options) - _OPTIONS)
        if unknown:
            known = ", ".join(sorted(_OPTIONS))
            return TriggerResult(code="bad_option", reason=f"unknown option {', '.join(unknown)}; known are {known}")
        if not run_async:
            reason = "run_async=False is not offered here: the webhook is carried out by a worker; leave it out"
            return TriggerResult(code="foreground_unsupported", reason=reason)
        model, model_id = options.get("model_type"), options.get("model_id")
        request = TriggerRequest(
            endpoint=endpoint,
            payload=payload,
            event_type=event_type,
            priority=options.get("priority"),
            delay_s=options.get("delay"),
            model=None if model is None else str(model),
            model_id=None if model_id is None else model_key_text(model_id),
        )
        return self.accept(request, trigger="service")

    def accept(
        self, request: TriggerRequest, *, trigger: str, requested_by: str | None = None, event_id: str | None = None
    ) -> TriggerResult:
        """Check a request and make it durable. ``trigger`` is service, http, cli or inbound.

        ``event_id`` (a UUID) lets a caller that had no answer ask again for the same event.
        """
        try:
            checked = self._check(request)
        except Refused as refused:
            return TriggerResult(code=refused.code, reason=str(refused))
        checked.trigger = trigger
        checked.requested_by = requested_by
        checked.event_id = event_id or checked.event_id
        try:
            return TriggerResult(event_id=self._sink.accept(checked).event_id)
        except Retryable as error:
            return TriggerResult(code="unavailable", reason=str(error))

    def _check(self, request: TriggerRequest) -> WebhookRequested:
        payload = payload_text(request.payload, self._payload_limit_bytes)
        priority = _whole("priority", request.priority, 1, 10)
        delay_s = _whole("delay", request.delay_s, 0, LONGEST_DELAY_S)
        endpoint = self._endpoint(request.endpoint)
        if not 0 < len(request.event_type) <= 200:
            raise Refused("bad_option", "event_type must be 1 to 200 characters")
        if (request.model is None) != (request.model_id is None):
            raise Refused("bad_option", "model and model_id belong together: give both or neither")
        return WebhookRequested(
            event_id=new_event_id(),
            tenant_id=self.tenant.id,
            endpoint=endpoint,
            event_type=request.event_type,
            trigger="service",
            requested_at=now_micros(),
            payload=payload,
            priority=priority,
            delay_s=delay_s,
            model=request.model,
            model_id=request.model_id,
        )

    def _endpoint(self, endpoint: str) -> str:
        name, configuration = endpoint.strip("/"), self.tenant.configuration
        try:
            resolve(name, configuration, self.manifest)
        except Permanent as error:
            endpoints = {each.webhook_endpoint for each in configuration.webhook_settings}
            endpoints |= configuration.route_handlers.keys()
            listed = ", ".join(sorted(endpoints)) or "none"
            raise Refused("unknown_endpoint", f"{error}. Configured endpoints: {listed}") from None
        return name


class PluginService:
    """Loads tenants' plugins."""

    def __init__(
        self,
        tenants: TenantReader,
        registry: PluginRegistry,
        sink: EventSink,
        http: HttpClient | None = None,
        payload_limit_bytes: int = PAYLOAD_LIMIT_BYTES,
    ) -> None:
        """``http`` is needed for calls to upstreams only. ``payload_limit_bytes`` bounds a payload as JSON."""
        self._tenants = tenants
        self._registry = registry
        self._make: Callable[[Tenant, PluginManifest], LoadedPlugin] = lambda tenant, manifest: LoadedPlugin(
            tenant, manifest, sink, http, payload_limit_bytes
        )

    def load(self, tenant: str | int | None = None) -> LoadedPlugin:
        """The plugin of a tenant: by id, by hostname, or of the current one.

        Raises ``NoCurrentTenant``, ``UnknownTenant``, ``PluginUnavailable``, and ``Retryable`` where the tenants'
        database is away.
        """
        name = current_tenant_id("load()") if tenant is None else str(tenant).strip()
        found = self.tenant(name)
        try:
            return self._make(found, self._registry.for_tenant(found))
        except Permanent as error:
            raise PluginUnavailable(str(error)) from error

    def tenant(self, name: str) -> Tenant:
        """The tenant of an id or a hostname. Raises as ``load`` does."""
        # All digits is an id: no public hostname is.
        try:
            found = self._tenants.get(name) if name.isdigit() else self._tenants.by_hostname(name)
        except Permanent as error:
            raise PluginUnavailable(str(error)) from error
        if found is None:
            kind = "id" if name.isdigit() else "hostname"
            raise UnknownTenant(f"no tenant has the {kind} {name!r}; `webhook tenants list` shows all")
        return found


def _whole(name: str, value: object, least: int, most: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        unit = " of seconds" if name == "delay" else ""
        raise Refused("bad_option", f"{name} must be a whole number{unit} from {least} to {most}, not {value!r:.80}")
    return value
