"""``POST /v1/webhooks``: ask for a webhook by HTTP."""

from collections.abc import Mapping
from typing import Any, Final

import orjson
from aiohttp import web

from handlers.payloads import Refusal
from handlers.service import PluginService, PluginUnavailable, TriggerRequest, TriggerResult, UnknownTenant
from handlers.tenants.tokens import Scope, Token
from schemas.limits import check_json_depth
from streams.web.authentication import Authenticator
from streams.web.blocking import BlockingCalls
from streams.web.problems import Problem

FIELDS: Final = frozenset({"tenant", "endpoint", "payload", "event_type", "priority", "delay", "model", "model_id"})
ENVELOPE_BYTES: Final = 16 * 1024
"""What a body may have beside its payload."""

_ENVELOPE_DEPTH: Final = 33
_STATUS: Final[Mapping[Refusal, int]] = {"too_large": 413, "unavailable": 503}


class TriggerResource:
    """Takes requests for webhooks; answers 202 once a request is in the outbox, whatever Kafka is doing."""

    def __init__(self, service: PluginService, authenticator: Authenticator, calls: BlockingCalls) -> None:
        self._service = service
        self._authenticator = authenticator
        self._calls = calls

    async def post(self, request: web.Request) -> web.Response:
        """202 ``{"event_id"}``; else a problem: 400 401 403 404 413 415 422 503."""
        token = await self._authenticator.token_of(request, Scope.OPERATOR)
        body = await _read_body(request)
        wanted, tenant = _trigger_request(body), _tenant_of(body, token)
        result = await self._calls.run(lambda: self._accept(wanted, tenant, token))
        if not result:
            code = result.code or "unavailable"
            raise Problem(_STATUS.get(code, 422), code, result.reason or "the request was refused")
        return web.Response(
            status=202,
            body=orjson.dumps({"event_id": result.event_id}),
            content_type="application/json",
            headers={"Location": f"/v1/events/{result.event_id}"},
        )

    def _accept(self, wanted: TriggerRequest, tenant: str, token: Token) -> TriggerResult:
        nobody = Problem(404, "unknown_tenant", f"no tenant {tenant!r} is within this token's reach")
        try:
            found = self._service.tenant(tenant)
            if not token.reaches(found.id):
                # The same answer as for a tenant that is not there: a token learns nothing of others'.
                raise nobody
            return self._service.load(found.id).accept(wanted, trigger="http", requested_by=token.name)
        except UnknownTenant:
            raise nobody from None
        except PluginUnavailable as error:
            if token.tenant_id is not None and token.tenant_id != tenant:
                raise nobody from error
            raise Problem(422, "plugin_unavailable", str(error)) from error


async def _read_body(request: web.Request) -> dict[str, Any]:
    """The body's JSON object; bounded in size and depth before it is parsed."""
    if request.content_type != "application/json":
        raise Problem(415, "media_type", f"send application/json, not {request.content_type}")
    data = await request.read()
    try:
        check_json_depth(data.decode(), _ENVELOPE_DEPTH)
        body = orjson.loads(data)
    except UnicodeDecodeError as error:
        raise Problem(400, "bad_json", f"the body is not UTF-8: {error.reason} at byte {error.start}") from error
    except orjson.JSONDecodeError as error:
        raise Problem(400, "bad_json", f"the body is not JSON: {error}") from error
    except ValueError as error:
        raise Problem(422, "too_deep", str(error)) from error
    if not isinstance(body, dict):
        raise Problem(400, "bad_json", "the body must be a JSON object")
    unknown = sorted(set(body) - FIELDS)
    if unknown:
        raise Problem(422, "unknown_field", f"unknown field {unknown[0]!r:.80}; known are {', '.join(sorted(FIELDS))}")
    return body


def _trigger_request(body: Mapping[str, Any]) -> TriggerRequest:
    missing = [name for name in ("endpoint", "payload") if name not in body]
    if missing:
        raise Problem(422, "missing_field", f"the field {missing[0]!r} is missing")
    texts = {name: _text(body, name) for name in ("endpoint", "event_type", "model")}
    model_id = body.get("model_id")
    if model_id is not None and (isinstance(model_id, bool) or not isinstance(model_id, int | str)):
        raise Problem(422, "bad_option", "model_id must be text or a whole number")
    return TriggerRequest(
        endpoint=texts["endpoint"] or "",
        payload=body["payload"],
        event_type=texts["event_type"] or "manual_trigger",
        priority=body.get("priority"),
        delay_s=body.get("delay"),
        model=texts["model"],
        model_id=None if model_id is None else str(model_id),
    )


def _text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and not (isinstance(value, str) and 0 < len(value) <= 200):
        raise Problem(422, "bad_option", f"{name} must be text of 1 to 200 characters")
    return value


def _tenant_of(body: Mapping[str, Any], token: Token) -> str:
    """The tenant's id or hostname: the body's, else the token's own."""
    tenant = body.get("tenant", token.tenant_id)
    if tenant is None:
        raise Problem(422, "missing_field", "the field 'tenant' is missing: an id or a hostname")
    if isinstance(tenant, bool) or not isinstance(tenant, int | str) or not 0 < len(str(tenant)) <= 255:
        raise Problem(422, "bad_option", "tenant must be an id or a hostname")
    return str(tenant)
