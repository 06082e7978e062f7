"""What the doors that take something for a tenant have in common: whose tenant it is, and what a refusal is called."""

from collections.abc import Callable, Mapping
from typing import Final

from handlers.loading import PluginUnavailable, UnknownTenant
from handlers.payloads import Refusal
from handlers.service import PluginService, TriggerResult
from handlers.tenants.repository import Tenant
from handlers.tenants.tokens import Token
from streams.web.problems import UNAVAILABLE, Problem

_STATUS: Final[Mapping[Refusal, int]] = {"too_large": 413, "unknown_endpoint": 404, "unavailable": 503}
"""Of what is refused; 422 for all else."""


def reached_tenant(service: PluginService, tenant: str, token: Token) -> Tenant:
    """The tenant of an id or a hostname, where the token may act for it. Blocks. Raises ``Problem``: 404 422."""
    # The same answer as for a tenant that is not there: a token learns nothing of others'.
    nobody = Problem(404, "unknown_tenant", f"no tenant {tenant!r:.80} is within this token's reach")
    try:
        found = service.tenant(tenant)
    except UnknownTenant:
        raise nobody from None
    except PluginUnavailable as error:
        if token.tenant_id is not None and token.tenant_id != tenant:
            raise nobody from error
        raise Problem(422, "plugin_unavailable", str(error)) from error
    if not token.reaches(found.id):
        raise nobody
    return found


def accepted_for(service: PluginService, tenant: str, token: Token, accept: Callable[[str], TriggerResult]) -> str:
    """Id of what ``accept`` puts into the outbox for a tenant, which it gets by id. Blocks. Raises ``Problem``."""
    found = reached_tenant(service, tenant, token)
    try:
        result = accept(found.id)
    except PluginUnavailable as error:
        raise Problem(422, "plugin_unavailable", str(error)) from error
    return accepted_id(result)


def accepted_id(result: TriggerResult) -> str:
    """Id of what was accepted. Raises ``Problem`` for what was not."""
    if result.event_id is None or result.code is not None:
        code = result.code or "unavailable"
        # What is away, and where, is told to the log: the caller can only wait.
        detail = UNAVAILABLE if code == "unavailable" else result.reason or "the request was refused"
        raise Problem(status_of(code), code, detail)
    return result.event_id


def status_of(code: Refusal) -> int:
    """HTTP status of a refusal."""
    return _STATUS.get(code, 422)
