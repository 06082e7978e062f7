"""What a plugin gives and what its handlers get: authors import from here, ``results`` and ``schemas.errors``."""

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias, runtime_checkable

from handlers.results import Returned

PLUGIN_API_VERSION: Final = 1


class HttpClient(Protocol):
    """The one guarded way out: resolved, checked and capped (``handlers.outbound``)."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> "HttpResponse":
        """Send a request and read its answer whole, within ``timeout_s`` or the client's own limit.

        Raises ``Permanent`` for a refused address, and ``Retryable`` for faults of the network and for 429 and 5xx
        answers. Its code ``not_connected`` says that nothing was sent.
        """

    def stream(
        self,
        method: str,
        url: str,
        *,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> AbstractAsyncContextManager["StreamedResponse"]:
        """As ``request``, for an answer of any size: its body is read piece by piece, inside the block."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An answer, read whole. ``headers`` are found in either case, ``body`` is bounded by the client's cap."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class StreamedResponse:
    """An answer whose body is still under way. ``chunks`` raises ``Retryable`` where it breaks off."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class BoundClient:
    """A client whose every request carries one task's headers; they win over the handler's own."""

    client: HttpClient
    headers: Mapping[str, str]

    async def request(
        self,
        method: str,
        url: str,
        *,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> HttpResponse:
        """See ``HttpClient``."""
        sent = {**(headers or {}), **self.headers}
        return await self.client.request(method, url, json=json, headers=sent, timeout_s=timeout_s)

    def stream(
        self,
        method: str,
        url: str,
        *,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> AbstractAsyncContextManager[StreamedResponse]:
        """See ``HttpClient``."""
        sent = {**(headers or {}), **self.headers}
        return self.client.stream(method, url, json=json, headers=sent, timeout_s=timeout_s)


@dataclass(slots=True)
class Context:
    """What a handler knows beside its payload.

    ``config`` is the tenant's validated configuration (secrets in clear: never log it). ``idempotency_key`` is the
    same for every attempt of this step. ``results`` holds the JSON results of earlier steps of a pipeline, in order.
    ``files_dir`` is the installation's directory for files that handlers make, ``None`` where it has none.
    Whatever client is given, the handler's requests carry ``Idempotency-Key``, and ``traceparent`` where it is known.
    """

    tenant_id: str
    event_id: str
    event_type: str
    endpoint: str
    run: int
    step: int
    attempt: int
    idempotency_key: str
    config: Mapping[str, Any] = field(repr=False)
    http: HttpClient
    log: logging.LoggerAdapter[logging.Logger]
    results: list[dict[str, Any]] = field(default_factory=list)
    traceparent: str | None = None
    files_dir: Path | None = None

    def __post_init__(self) -> None:
        headers = {"Idempotency-Key": self.idempotency_key}
        if self.traceparent:
            headers["traceparent"] = self.traceparent
        self.http = BoundClient(self.http.client if isinstance(self.http, BoundClient) else self.http, headers)

    @property
    def previous_step_result(self) -> dict[str, Any] | None:
        """Result of the step before this one; ``None`` in the first step."""
        return self.results[-1] if self.results else None


@runtime_checkable
class Handler(Protocol):
    """A handler run on its own. One instance serves every tenant, so it keeps no state between calls.

    An attribute ``timeout_s`` is the longest run of one call, in seconds, where the worker's own limit does not fit.
    ``at_most_once = True``: what it does must not be done twice. Then ``reconcile(payload, context)`` looks for what an
    attempt may have done (see ``Reconciled``); what it does not find was not done, if it began ``settle_s`` seconds
    after the last moment of that attempt. A plain ``def`` runs in a thread.
    """

    async def handle(self, payload: dict[str, Any], context: Context) -> Returned:
        """Carry out the webhook. May be called again after a fault, with the same idempotency key."""


@runtime_checkable
class StepHandler(Protocol):
    """A handler that can be a step of a pipeline."""

    async def handle_step(self, data: dict[str, Any], step: int, context: Context) -> Returned:
        """Carry out one step.

        ``data`` is the payload, with ``previous_step_result``, ``pipeline_results`` and ``current_step`` beside it.
        """


AnyHandler: TypeAlias = Handler | StepHandler


class PluginManager(Protocol):
    """What a plugin can do for a tenant outside webhooks. Made for one tenant, from ``PluginManifest.manager``."""

    async def get_categories(self) -> list[dict[str, Any]]:
        """The upstream's product categories, as the upstream gives them."""

    async def get_price(self, quantity: int, product_data: Mapping[str, Any]) -> dict[str, Any]:
        """Price of ``quantity`` pieces of a product. Raises ``Permanent`` where the upstream refuses the product."""

    def get_sync_pipeline_config(self) -> list[dict[str, Any]]:
        """The steps that copy the upstream's catalogue, as data: nothing is called."""

    async def check(self) -> str | None:
        """Try the tenant's credentials: ``None`` when they work, else what is wrong."""

    def map_sku(self, sku: str) -> str:
        """The upstream's name of one of the tenant's products."""

    def map_specifications(self, item: Mapping[str, Any]) -> list[dict[str, str]]:
        """An item's properties in the upstream's words."""


@dataclass(frozen=True, slots=True)
class PluginManifest:
    """What a plugin is. Its entry point in the group ``webhook_streams.plugins`` names one of these.

    ``id`` is the ``plugin_route_prefix`` that chooses the plugin, ``aliases`` are further names (``plugin_name``).
    ``handlers`` maps each name a configuration may use to what makes the handler: called once, without arguments.
    ``manager`` gets tenant id, the tenant's configuration and the guarded client. ``routes`` are pairs of route and
    method that the upstream offers. ``config_schema`` is a JSON Schema, secrets marked ``"secret": true``.
    ``upstream`` gives the address that handlers call with a tenant's configuration: its host has a circuit breaker and
    may have a call rate. A handler's attribute ``calls_upstream = False`` leaves that handler out of both.
    ``supports`` is the range of a tenant's ``plugin__v`` that the plugin is made for (``>=2,<3``); empty: any.
    ``compatible_with`` is the range of its own versions whose runs it carries on (``>=1.4,<3``); empty: those
    that are not newer and of the same major version (before 1.0 the same minor one).
    """

    id: str
    version: str
    handlers: Mapping[str, Callable[[], AnyHandler]]
    title: str = ""
    aliases: Sequence[str] = ()
    api_version: int = PLUGIN_API_VERSION
    routes: Sequence[tuple[str, str]] = ()
    manager: Callable[[str, Mapping[str, Any], HttpClient], PluginManager] | None = None
    config_schema: Mapping[str, Any] = field(default_factory=dict)
    supports: str = ""
    compatible_with: str = ""
    upstream: Callable[[Mapping[str, Any]], str | None] | None = None
    _made: dict[str, AnyHandler] = field(default_factory=dict, init=False, repr=False, compare=False)

    def handler(self, name: str) -> AnyHandler | None:
        """The handler of that name, made when first asked for; ``None`` where the plugin has none."""
        if name not in self._made and name in self.handlers:
            self._made[name] = self.handlers[name]()
        return self._made.get(name)
