"""The plugin's sidecar: a service of its own at ``{plugin_route_prefix}:{plugin_port}`` that keeps the credentials.

It answers with an envelope ``{data, message, status, errors}`` whose ``status`` is the upstream's, whatever the
answer's own is. Only routes that the tenant lists in ``plugin_routes`` are called, and its address is reached only
where the operator allows it (``WEBHOOK_OUTBOUND_ALLOW``).
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from handlers.contract import Context, HttpClient, PluginManager
from handlers.results import Completed, Rejected, Result
from handlers.tenants.configuration import TenantConfiguration
from handlers.upstreams.answers import UpstreamRefused, any_of
from schemas.errors import Permanent, Retryable
from schemas.events import now_micros

_TOO_MANY: Final = 429


class RouteNotListed(Permanent):
    """A route that the tenant's ``plugin_routes`` do not list with that method."""

    code = "route_not_listed"

    def __init__(self, route: str, method: str) -> None:
        super().__init__(f"{method} {route} is not among the tenant's plugin_routes; add it there to allow the call")


class Sidecar:
    """Calls a tenant's sidecar."""

    def __init__(self, tenant_id: str, config: Mapping[str, Any], http: HttpClient) -> None:
        self._tenant_id = tenant_id
        self._config = config
        self._http = http

    async def call(self, method: str, route: str, body: Mapping[str, Any] | None = None) -> Any:
        """The ``data`` of its answer. The tenant's id goes along, in the query of a GET, else in the body.

        Raises ``RouteNotListed`` without calling, ``UpstreamRefused`` for 4xx in the envelope or outside, and
        ``Retryable`` for 429, 5xx and faults of the network.
        """
        require_route(self._config, route, method)
        port = self._config.get("plugin_port")
        if port is None:
            raise Permanent("transport sidecar needs plugin_port; set it in the tenant's configuration")
        url = f"http://{self._config['plugin_route_prefix']}:{port}/{route}"
        sent = {"tenant_id": self._tenant_id, **(body or {})}
        if method == "GET":
            response = await self._http.request(method, f"{url}?{urlencode(sent)}")
        else:
            response = await self._http.request(method, url, json=sent)
        answer = any_of(response)
        envelope = answer if isinstance(answer, dict) else {"data": answer}
        status = envelope.get("status")
        code = status if isinstance(status, int) and not isinstance(status, bool) else response.status
        if code == _TOO_MANY or code >= 500:
            raise Retryable(f"the sidecar says {code}: {_said(envelope)}; it is asked again", code=f"http_{code}")
        if not (200 <= code < 300 and 200 <= response.status < 300):
            shown = code if code >= 300 else response.status
            raise UpstreamRefused(f"the sidecar says {shown}: {_said(envelope)}; mend what it names, then trigger anew")
        return envelope.get("data", envelope)


class SidecarManager:
    """A plugin's manager whose upstream calls go to the sidecar; what needs no call is asked of ``direct``."""

    def __init__(self, direct: PluginManager, sidecar: Sidecar) -> None:
        self._direct = direct
        self._sidecar = sidecar

    async def get_categories(self) -> list[dict[str, Any]]:
        """See ``PluginManager``: ``GET categories``."""
        found = await self._sidecar.call("GET", "categories")
        return found if isinstance(found, list) else []

    async def get_price(self, quantity: int, product_data: Mapping[str, Any]) -> dict[str, Any]:
        """See ``PluginManager``: ``POST get-price``."""
        options = {each["attribute"]: each["value"] for each in self.map_specifications(product_data)}
        sku = self.map_sku(str(product_data.get("sku", "")))
        body = {"sku": sku, "options": {**options, "quantity": quantity}, "address": product_data.get("address")}
        found = await self._sidecar.call("POST", "get-price", body)
        return found if isinstance(found, dict) else {"price": found}

    def get_sync_pipeline_config(self) -> list[dict[str, Any]]:
        """See ``PluginManager``."""
        return self._direct.get_sync_pipeline_config()

    async def check(self) -> str | None:
        """See ``PluginManager``: asks for the categories."""
        try:
            await self.get_categories()
        except (Permanent, Retryable) as error:
            return str(error)
        return None

    def map_sku(self, sku: str) -> str:
        """See ``PluginManager``."""
        return self._direct.map_sku(sku)

    def map_specifications(self, item: Mapping[str, Any]) -> list[dict[str, str]]:
        """See ``PluginManager``."""
        return self._direct.map_specifications(item)


class SidecarForwardHandler:
    """Posts the payload to the sidecar's route of the endpoint's own name: what an endpoint without a handler gets."""

    async def handle(self, payload: dict[str, Any], context: Context) -> Result:
        """``{"forwarded_to": route, "data": what the sidecar returned}``."""
        body = {"data": payload, "timestamp": now_micros() // 1_000_000}
        try:
            data = await Sidecar(context.tenant_id, context.config, context.http).call("POST", context.endpoint, body)
        except UpstreamRefused as error:
            return Rejected(str(error), code=error.code)
        return Completed({"forwarded_to": context.endpoint, "data": data})


def forwards(configuration: TenantConfiguration, endpoint: str) -> bool:
    """Whether the tenant's sidecar takes an endpoint that no handler carries out."""
    return configuration.transport == "sidecar" and configuration.lists_route(endpoint)


def require_route(config: Mapping[str, Any], route: str, method: str) -> None:
    """Raise ``RouteNotListed`` for a call out that the tenant's ``plugin_routes`` do not allow."""
    routes = config.get("plugin_routes") or ()
    if not any(str(each.get("route")).strip("/") == route and each.get("method") == method for each in routes):
        raise RouteNotListed(route, method)


def _said(envelope: Mapping[str, Any]) -> str:
    """What the sidecar says is wrong; its messages come as text or as a list."""
    said = envelope.get("message") or envelope.get("errors") or "no explanation"
    return "; ".join(map(str, said))[:500] if isinstance(said, list) else str(said)[:500]
