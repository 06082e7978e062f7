"""``POST /in/{token}/{prefix}/{route}``: webhooks of providers, each for one source of a tenant."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import orjson
import structlog
from aiohttp import web

from handlers.inbound.deliveries import UnknownMediaType, read_delivery
from handlers.inbound.schemes import HmacLayout, Scheme, generated_secret
from handlers.inbound.signatures import SignedRequest, verify
from handlers.loading import PluginUnavailable, UnknownTenant
from handlers.payloads import Refused
from handlers.requests import TriggerRequest
from handlers.rules import OwnTenant, Received
from handlers.service import PluginService
from handlers.tenants.inbound_sources import DEFAULT_TOLERANCE_S, OpenedSource, Source, SourceRepository
from handlers.tenants.repository import Tenant
from streams.capture.outbox import OutboxSink
from streams.web.accepting import accepted_id
from streams.web.blocking import BlockingCalls
from streams.web.bodies import read_bytes
from streams.web.inbound_deliveries import DeliverySink
from streams.web.openapi import object_of
from streams.web.problems import Problem
from streams.web.rate_limit import Rates
from streams.web.routes import Answer, Parameter, Route

_log = structlog.get_logger(__name__)

TRIGGER: Final = "inbound"

_REFUSAL: Final = "the address is unknown, or the request is not signed for it, or signed too long ago"
_OF_OUR_MAKING: Final = frozenset({Scheme.HMAC, Scheme.TOKEN})
"""Schemes whose senders write payloads for us: a ``tenant_id`` in them is one of ours."""


@dataclass(frozen=True, slots=True)
class _Address:
    token: str
    prefix: str
    route: str


class InboundResource:
    """Takes what providers send; answers 202 once it is in the outbox, and a repeat as it answered the first."""

    def __init__(
        self,
        service: PluginService,
        sink: OutboxSink,
        sources: SourceRepository,
        calls: BlockingCalls,
        rates: Rates,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``rates`` are of sources, by their ids; ``clock`` gives Unix seconds."""
        self._service = service
        self._sink = sink
        self._sources = sources
        self._calls = calls
        self._rates = rates
        self._clock = clock
        # Whoever asks for an unknown address waits for as much work as whoever signs wrongly.
        self._nobodys_secrets = (generated_secret(Scheme.STANDARD),)

    def routes(self) -> list[Route]:
        """What this resource serves."""
        named = {
            "token": "The secret part of the source's address, from `webhook inbound create`.",
            "prefix": "The tenant's plugin_route_prefix.",
            "route": "The source's route, one of the tenant's plugin_routes.",
        }
        schema = {"type": "string", "minLength": 1}
        return [
            Route(
                method="POST",
                path="/in/{token}/{prefix}/{route:.+}",
                handler=self.post,
                name="inbound",
                tag="triggers",
                summary="Take a provider's webhook, signed as its source says",
                parameters=[
                    Parameter(name=name, place="path", description=text, schema=schema) for name, text in named.items()
                ],
                body={"type": "object", "description": "Whatever the provider sends; some send forms instead."},
                answers={202: Answer("It is in the outbox.", object_of({"event_id": {"type": "string"}}))},
                problems=[401, 404, 422, 429, 503],
            )
        ]

    async def post(self, request: web.Request) -> web.Response:
        """202 ``{"event_id"}``; else a problem: 400 401 404 408 413 415 422 429 503.

        Whatever is wrong with address, signature or time gets the same 401.
        """
        # Read first, whatever it is: what is left unread and cannot be unpacked would break the connection off.
        body = await read_bytes(request)
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            # What was signed are the bytes that were sent, and only the unpacked ones would be here.
            raise Problem(415, "media_type", "send the body as it is, without Content-Encoding")
        names = request.match_info
        address = _Address(names["token"], names["prefix"], names["route"])
        signed = SignedRequest(_once(request), body, int(self._clock()))
        media_type = request.content_type
        event_id = await self._calls.run(lambda: self._accept(address, signed, media_type))
        return web.Response(status=202, body=orjson.dumps({"event_id": event_id}), content_type="application/json")

    def _accept(self, address: _Address, signed: SignedRequest, media_type: str) -> str:
        source, tenant = self._authentic(address, signed)
        # Only what is signed counts: whoever knows no more than the address cannot use up its source's rate.
        self._rates.take(source.id)
        if not tenant.configuration.lists_route(source.route):
            raise Problem(404, "unknown_route", f"POST {source.route} is not among the tenant's plugin_routes")
        try:
            delivery = read_delivery(source.scheme, signed, media_type, source.layout)
        except UnknownMediaType as error:
            raise Problem(415, "media_type", str(error)) from None
        except Refused as error:
            raise Problem(400 if error.code == "bad_payload" else 422, error.code, str(error)) from None
        if source.scheme in _OF_OUR_MAKING:
            for fault in OwnTenant().faults(Received(delivery.payload, tenant.id)):
                raise Problem(422, "foreign_tenant", fault)
        wanted = TriggerRequest(
            endpoint=source.route,
            payload=delivery.payload,
            event_type=delivery.event_type or f"{address.prefix}.{source.route}",
        )
        sink = DeliverySink(self._sink, source.id, delivery.ids)
        try:
            plugin = self._service.load(tenant.id)
        except PluginUnavailable as error:
            raise Problem(422, "plugin_unavailable", str(error)) from error
        return accepted_id(plugin.accept(wanted, trigger=TRIGGER, requested_by=source.name, sink=sink))

    def _authentic(self, address: _Address, signed: SignedRequest) -> tuple[Source, Tenant]:
        """The source that a request is signed for, and its tenant. Raises ``Problem`` 401."""
        opened = self._sources.find(address.token)
        reason = self._fault(opened, signed)
        tenant = None
        if opened is not None and reason is None:
            try:
                tenant = self._service.tenant(opened.source.tenant_id)
            except UnknownTenant:
                reason = "its tenant is gone"
            except PluginUnavailable as error:
                raise Problem(422, "plugin_unavailable", str(error)) from error
        if opened is None or tenant is None:
            known = None if opened is None else opened.source.id
            _log.info("an inbound webhook is refused", source=known, reason=reason)
            raise Problem(401, "refused", _REFUSAL)
        if (address.prefix, address.route) != (tenant.configuration.plugin_route_prefix, opened.source.route):
            _log.info("an inbound webhook is refused", source=opened.source.id, reason="another prefix or route")
            raise Problem(401, "refused", _REFUSAL)
        return opened.source, tenant

    def _fault(self, opened: OpenedSource | None, signed: SignedRequest) -> str | None:
        """Why a request is not authentic; an unknown address costs as much as a known one."""
        if opened is None:
            verify(Scheme.STANDARD, self._nobodys_secrets, signed, DEFAULT_TOLERANCE_S, HmacLayout())
            return "no such address"
        source = opened.source
        return verify(source.scheme, opened.secrets, signed, source.tolerance_s, source.layout)


def _once(request: web.Request) -> dict[str, str]:
    """Headers that came once, names in lower case: of two values nobody could say which one was meant."""
    return {name.lower(): value for name, value in request.headers.items() if len(request.headers.getall(name)) == 1}
